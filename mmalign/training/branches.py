"""Log-probabilities of every branch of a batch, under policy and reference."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mmalign.models.families import ModelFamily
from mmalign.objectives import Need
from mmalign.training.config import TrainerConfig
from mmalign.training.forward import Row, base_model, completion_hidden, completion_ids
from mmalign.training.logprobs import ReferenceHidden, score_tokens
from mmalign.training.reference import Reference
from mmalign.training.vision_cache import VisionFeatures
from mmalign.training.vocabulary import Measure

__all__ = ["BranchScores", "StoredLogps", "measures_of", "score_branches"]

_MEASURES: dict[Need, Measure] = {
    "token_kl": "kl",
    "token_entropy": "entropy",
    "token_js": "js",
}


class StoredLogps(Protocol):
    """A reference whose log-probabilities are looked up."""

    def logps(self, rows: Sequence[Row]) -> Tensor:
        """[N] nats of the scored tokens of all branches, row by row, without gradient."""
        ...


@dataclass(frozen=True)
class BranchScores:
    """Per branch, [T] each: its scored tokens and no others."""

    logps: tuple[Tensor, ...]
    """Nats; carries gradient."""
    ref_logps: tuple[Tensor, ...] | None
    """Nats, without gradient; None without a reference."""
    kl: tuple[Tensor, ...] | None
    """Nats, KL(reference || policy) over the vocabulary, where it was asked for."""
    entropy: tuple[Tensor, ...] | None = None
    """Nats, of the policy over the vocabulary, where it was asked for."""
    js: tuple[Tensor, ...] | None = None
    """Bits, Jensen-Shannon divergence from the reference, where it was asked for."""
    hidden: tuple[Tensor, ...] = ()
    """[T, H] states that predict the scored tokens; carries gradient."""


def measures_of(needs: AbstractSet[Need]) -> frozenset[Measure]:
    """What objectives need of whole distributions over the vocabulary."""
    return frozenset(measure for need, measure in _MEASURES.items() if need in needs)


def score_branches(
    policy: nn.Module,
    family: ModelFamily,
    rows: Sequence[Row],
    config: TrainerConfig,
    *,
    reference: Reference | StoredLogps | None,
    vision: VisionFeatures | None = None,
    measures: AbstractSet[Measure] = frozenset(),
) -> BranchScores:
    """One forward pass of the policy and, where it is computed, of the reference.

    Args:
        policy: The trained model.
        family: Its adapter.
        rows: Prompts with their branches, on the model's device.
        config: Layout and chunk size.
        reference: What computes or stores its log-probabilities.
        vision: Features that are shared.
        measures: What is computed of whole distributions; `kl` and `js` take a computed reference.
    """
    ids = completion_ids(rows)
    hidden = completion_hidden(
        policy,
        family,
        rows,
        layout=config.layout,
        features=vision.of(rows) if vision else None,
    )
    chunk_size = config.logps_chunk_size
    ref_logps: Tensor | None = None
    ref_hidden: ReferenceHidden | None = None
    if isinstance(reference, Reference):
        ref_hidden = ReferenceHidden(
            reference.hidden(rows, layout=config.layout),
            reference.head,
            tuple(measure for measure in ("kl", "js") if measure in measures),
        )
        with torch.no_grad():
            ref_logps = score_tokens(
                ref_hidden.hidden, ref_hidden.head, ids, chunk_size=chunk_size
            ).logps
    elif reference is not None:
        ref_logps = reference.logps(rows)
    scores = score_tokens(
        hidden,
        family.head(base_model(policy)),
        ids,
        chunk_size=chunk_size,
        reference=ref_hidden,
        with_entropy="entropy" in measures,
    )
    sizes = [int(branch.mask.sum()) for row in rows for branch in row.branches]

    def by_branch(values: Tensor | None) -> tuple[Tensor, ...] | None:
        return None if values is None else torch.split(values, sizes)

    return BranchScores(
        logps=torch.split(scores.logps, sizes),
        ref_logps=by_branch(ref_logps),
        kl=by_branch(scores.kl),
        entropy=by_branch(scores.entropy),
        js=by_branch(scores.js),
        hidden=torch.split(hidden, sizes),
    )
