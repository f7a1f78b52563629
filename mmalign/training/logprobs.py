"""Token log-probabilities in chunks: the vocabulary axis never exists for all tokens at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmalign.errors import ShapeError
from mmalign.training.liger import liger_fits, liger_logps
from mmalign.training.linear_head import chunks, is_one_linear_layer, linear_scores
from mmalign.training.vocabulary import (
    Measure,
    TokenScores,
    join_scores,
    log_softmax,
    reference_logprobs,
    token_scores,
)

__all__ = ["ReferenceHidden", "TokenScores", "score_tokens"]


@dataclass(frozen=True)
class ReferenceHidden:
    """What the reference's vocabulary head needs for its full distribution."""

    hidden: Tensor
    """[N, H], without gradient, position for position that of the policy."""
    head: nn.Module
    divergences: tuple[Literal["kl", "js"], ...] = ("kl",)
    """What is asked of it."""


def score_tokens(
    hidden: Tensor,
    head: nn.Module,
    ids: Tensor,
    *,
    chunk_size: int,
    reference: ReferenceHidden | None = None,
    with_entropy: bool = False,
) -> TokenScores:
    """Log-probabilities of given tokens, and what is asked of the whole distributions.

    Only `chunk_size` rows of logits [chunk, V] are alive at a time, in the backward pass too. The
    softmax is taken in float32 or finer. A head of one linear layer has a backward pass of its
    own (`mmalign.training.linear_head`); of any other, each chunk is computed again.

    Args:
        hidden: [N, H] states that predict the tokens.
        head: Gives logits [n, V] of states [n, H].
        ids: [N] int64, the tokens.
        chunk_size: Tokens per chunk, > 0.
        reference: States and head of the reference at the same positions, and what is asked of
            them.
        with_entropy: Whether the policy's entropy is computed.

    Raises:
        ShapeError: N differs between the arguments, or the vocabularies differ.
    """
    if hidden.shape[0] != ids.shape[0]:
        raise ShapeError(f"{hidden.shape[0]} hidden states for {ids.shape[0]} tokens")
    if reference is not None and reference.hidden.shape[0] != hidden.shape[0]:
        raise ShapeError(
            f"policy has {hidden.shape[0]} positions, the reference {reference.hidden.shape[0]}"
        )
    measures = _measures(reference, with_entropy=with_entropy)
    needs_grad = torch.is_grad_enabled() and (
        hidden.requires_grad or any(p.requires_grad for p in head.parameters())
    )
    ref_hidden = reference.hidden if reference and reference.divergences else None
    ref_head = reference.head if reference and reference.divergences else None
    if not needs_grad and liger_fits(hidden, head, measures):
        assert isinstance(head, nn.Linear)
        return TokenScores(liger_logps(hidden, head, ids))
    if needs_grad and is_one_linear_layer(head):
        assert isinstance(head, nn.Linear)
        return linear_scores(
            hidden,
            head,
            ids,
            chunk_size=chunk_size,
            measures=measures,
            ref_hidden=ref_hidden,
            ref_head=ref_head,
        )
    parts: list[TokenScores] = []
    for part in chunks(len(ids), chunk_size):
        ref_part = None if ref_hidden is None else ref_hidden[part]
        arguments = (hidden[part], head, ids[part], ref_part, ref_head, measures)
        if needs_grad and len(ids) > chunk_size:
            parts.append(checkpoint(_score_chunk, *arguments, use_reentrant=False))
        else:
            parts.append(_score_chunk(*arguments))
    return join_scores(parts)


def _measures(reference: ReferenceHidden | None, *, with_entropy: bool) -> tuple[Measure, ...]:
    measures: tuple[Measure, ...] = reference.divergences if reference else ()
    return (*measures, "entropy") if with_entropy else measures


def _score_chunk(
    hidden: Tensor,
    head: nn.Module,
    ids: Tensor,
    ref_hidden: Tensor | None,
    ref_head: nn.Module | None,
    measures: Sequence[Measure],
) -> TokenScores:
    logprobs = log_softmax(head(hidden))
    ref_logprobs = None
    if ref_hidden is not None and ref_head is not None:
        ref_logprobs = reference_logprobs(ref_hidden, ref_head, vocab_size=logprobs.shape[-1])
    return token_scores(logprobs, ids, ref_logprobs, measures)
