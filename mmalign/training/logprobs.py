"""Token log-probabilities in chunks: the vocabulary axis never exists for all tokens at once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmalign.errors import ShapeError
from mmalign.objectives import forward_kl

__all__ = ["ReferenceHidden", "TokenScores", "score_tokens"]


@dataclass(frozen=True)
class ReferenceHidden:
    """What the reference's vocabulary head needs for its full distribution."""

    hidden: Tensor
    """[N, H], without gradient, position for position that of the policy."""
    head: nn.Module


@dataclass(frozen=True)
class TokenScores:
    """What one pass over the vocabulary gives for N tokens."""

    logps: Tensor
    """[N], nats, of the taken tokens; carries gradient."""
    kl: Tensor | None = None
    """[N], KL(reference || policy) over the full vocabulary, where it was asked for."""


def score_tokens(
    hidden: Tensor,
    head: nn.Module,
    ids: Tensor,
    *,
    chunk_size: int,
    reference: ReferenceHidden | None = None,
) -> TokenScores:
    """Log-probabilities of given tokens, and the divergence from the reference if it is given.

    Only `chunk_size` rows of logits [chunk, V] are alive at a time; the backward pass computes
    each chunk again. The softmax is taken in float32 or finer.

    Args:
        hidden: [N, H] states that predict the tokens.
        head: Gives logits [n, V] of states [n, H].
        ids: [N] int64, the tokens.
        chunk_size: Tokens per chunk, > 0.
        reference: States and head of the reference at the same positions.

    Raises:
        ShapeError: N differs between the arguments, or the vocabularies differ.
    """
    if hidden.shape[0] != ids.shape[0]:
        raise ShapeError(f"{hidden.shape[0]} hidden states for {ids.shape[0]} tokens")
    if reference is not None and reference.hidden.shape[0] != hidden.shape[0]:
        raise ShapeError(
            f"policy has {hidden.shape[0]} positions, the reference {reference.hidden.shape[0]}"
        )
    ref_head = reference.head if reference else None
    logps: list[Tensor] = []
    kls: list[Tensor] = []
    for start in range(0, ids.shape[0], chunk_size):
        part = slice(start, start + chunk_size)
        ref_hidden = reference.hidden[part] if reference else None
        if torch.is_grad_enabled() and ids.shape[0] > chunk_size:
            taken, kl = checkpoint(
                _score_chunk,
                hidden[part],
                head,
                ids[part],
                ref_hidden,
                ref_head,
                use_reentrant=False,
            )
        else:
            taken, kl = _score_chunk(hidden[part], head, ids[part], ref_hidden, ref_head)
        logps.append(taken)
        if kl is not None:
            kls.append(kl)
    return TokenScores(
        logps=torch.cat(logps) if logps else hidden.new_zeros(0),
        kl=torch.cat(kls) if kls else (hidden.new_zeros(0) if reference else None),
    )


def _score_chunk(
    hidden: Tensor,
    head: nn.Module,
    ids: Tensor,
    ref_hidden: Tensor | None,
    ref_head: nn.Module | None,
) -> tuple[Tensor, Tensor | None]:
    logprobs = _log_softmax(head(hidden))
    taken = logprobs.gather(-1, ids[:, None])[:, 0]
    if ref_hidden is None or ref_head is None:
        return taken, None
    with torch.no_grad():
        ref_logprobs = _log_softmax(ref_head(ref_hidden))
    if ref_logprobs.shape != logprobs.shape:
        raise ShapeError(
            f"the policy's vocabulary has {logprobs.shape[-1]} tokens, the reference's "
            f"{ref_logprobs.shape[-1]}; a full-vocabulary divergence needs one vocabulary"
        )
    return taken, forward_kl(logprobs, ref_logprobs)


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))
