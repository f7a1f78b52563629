"""Log-probabilities of every branch of a batch, under policy and reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mmalign.models.families import ModelFamily
from mmalign.training.config import TrainerConfig
from mmalign.training.forward import Row, base_model, completion_hidden, completion_ids
from mmalign.training.logprobs import ReferenceHidden, score_tokens
from mmalign.training.reference import Reference
from mmalign.training.vision_cache import VisionFeatures

__all__ = ["BranchScores", "StoredLogps", "score_branches"]


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


def score_branches(
    policy: nn.Module,
    family: ModelFamily,
    rows: Sequence[Row],
    config: TrainerConfig,
    *,
    reference: Reference | StoredLogps | None,
    vision: VisionFeatures | None = None,
    with_kl: bool = False,
) -> BranchScores:
    """One forward pass of the policy and, where it is computed, of the reference."""
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
        ref_hidden = ReferenceHidden(reference.hidden(rows, layout=config.layout), reference.head)
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
        reference=ref_hidden if with_kl else None,
    )
    sizes = [int(branch.mask.sum()) for row in rows for branch in row.branches]
    return BranchScores(
        logps=torch.split(scores.logps, sizes),
        ref_logps=None if ref_logps is None else torch.split(ref_logps, sizes),
        kl=None if scores.kl is None else torch.split(scores.kl, sizes),
    )
