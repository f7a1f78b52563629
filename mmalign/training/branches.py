"""Log-probabilities of every branch of a batch, under policy and reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmalign.models.families import ModelFamily
from mmalign.training.config import TrainerConfig
from mmalign.training.forward import Row, base_model, completion_hidden, completion_ids
from mmalign.training.logprobs import ReferenceHidden, TokenScores, score_tokens
from mmalign.training.reference import Reference

__all__ = ["BranchScores", "score_branches"]


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
    reference: Reference | None,
    with_kl: bool = False,
) -> BranchScores:
    """One forward pass of the policy and, where there is one, of the reference."""
    ids = completion_ids(rows)
    hidden = completion_hidden(policy, family, rows, layout=config.layout)
    chunk_size = config.logps_chunk_size
    ref_scores: TokenScores | None = None
    ref_hidden: ReferenceHidden | None = None
    if reference is not None:
        ref_hidden = ReferenceHidden(reference.hidden(rows, layout=config.layout), reference.head)
        with torch.no_grad():
            ref_scores = score_tokens(
                ref_hidden.hidden, ref_hidden.head, ids, chunk_size=chunk_size
            )
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
        ref_logps=torch.split(ref_scores.logps, sizes) if ref_scores else None,
        kl=None if scores.kl is None else torch.split(scores.kl, sizes),
    )
