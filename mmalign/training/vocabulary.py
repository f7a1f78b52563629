"""What the distributions over the vocabulary at a few positions say, and its gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmalign.errors import ShapeError
from mmalign.objectives.kl import (
    bounded_logprobs,
    entropy_of_logprobs,
    jensen_shannon,
    kl_of_logprobs,
)
from mmalign.objectives.sums import at_least_float32

__all__ = [
    "Measure",
    "ScoreWeights",
    "TokenScores",
    "join_scores",
    "log_softmax",
    "logit_gradients",
    "reference_logprobs",
    "token_scores",
]

Measure = Literal["kl", "entropy", "js"]
"""What is asked of a whole distribution, beside the log-probability of the taken token."""


@dataclass(frozen=True)
class TokenScores:
    """What one pass over the vocabulary gives for N tokens; all of it carries gradient."""

    logps: Tensor
    """[N], nats, of the taken tokens."""
    kl: Tensor | None = None
    """[N], nats, KL(reference || policy) over the full vocabulary, where it was asked for."""
    entropy: Tensor | None = None
    """[N], nats, of the policy, where it was asked for."""
    js: Tensor | None = None
    """[N], bits, Jensen-Shannon divergence from the reference, where it was asked for."""


class ScoreWeights(NamedTuple):
    """[N] each: what every score counts in a sum of them; None counts nothing."""

    logps: Tensor | None = None
    kl: Tensor | None = None
    entropy: Tensor | None = None
    js: Tensor | None = None


def log_softmax(logits: Tensor) -> Tensor:
    """Logits [..., V] as log-probabilities, float32 or finer."""
    return torch.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))


@torch.no_grad()
def reference_logprobs(hidden: Tensor, head: nn.Module, *, vocab_size: int) -> Tensor:
    """[n, V] of the reference's states [n, H], without gradient.

    Raises:
        ShapeError: The reference has another vocabulary.
    """
    logprobs = log_softmax(head(hidden))
    if logprobs.shape[-1] != vocab_size:
        raise ShapeError(
            f"the policy's vocabulary has {vocab_size} tokens, the reference's "
            f"{logprobs.shape[-1]}; a full-vocabulary divergence needs one vocabulary"
        )
    return logprobs


def token_scores(
    logprobs: Tensor, ids: Tensor, ref_logprobs: Tensor | None, measures: Sequence[Measure]
) -> TokenScores:
    """The scores of n tokens.

    Args:
        logprobs: [n, V], nats, of the policy.
        ids: [n] int64, the taken tokens.
        ref_logprobs: [n, V], nats; only `entropy` does without them.
        measures: What is computed beside `logps`.
    """
    kl = js = None
    if ref_logprobs is not None:
        kl = kl_of_logprobs(logprobs, ref_logprobs) if "kl" in measures else None
        js = jensen_shannon(logprobs, ref_logprobs) if "js" in measures else None
    return TokenScores(
        logps=logprobs.gather(-1, ids[:, None])[:, 0],
        kl=kl,
        entropy=entropy_of_logprobs(logprobs) if "entropy" in measures else None,
        js=js,
    )


def logit_gradients(
    logprobs: Tensor, ids: Tensor, ref_logprobs: Tensor | None, weights: ScoreWeights
) -> Tensor:
    """The gradient of the weighted sum of the scores with respect to the logits.

        p, r   = exp(logprobs), exp(ref_logprobs); m = (p + r) / 2
        logps  : 1[taken] - p
        kl     : p - r
        entropy: p (u - sum p u), u = -log p
        js     : p (u - sum p u), u = (log2 p - log2 m) / 2

    Args:
        logprobs: [n, V], nats, at least float32; not changed.
        ids: [n] int64, the taken tokens.
        ref_logprobs: [n, V], nats; needed where `kl` or `js` counts.
        weights: What each score counts.

    Returns:
        [n, V], in the dtype of `logprobs`.
    """
    probs = logprobs.exp()
    slopes = _slopes(logprobs, ref_logprobs, weights)
    if slopes is not None:
        slopes -= (probs * slopes).sum(-1, keepdim=True)
    of_probs = _difference(weights.kl, weights.logps)
    if of_probs is not None:
        of_probs = at_least_float32(of_probs)[:, None]
        slopes = of_probs if slopes is None else slopes.add_(of_probs)
    gradients = probs.zero_() if slopes is None else probs.mul_(slopes)
    if weights.kl is not None:
        assert ref_logprobs is not None
        gradients.addcmul_(ref_logprobs.exp(), weights.kl[:, None], value=-1)
    if weights.logps is not None:
        gradients.scatter_add_(-1, ids[:, None], weights.logps[:, None].to(gradients.dtype))
    return gradients


def join_scores(parts: Sequence[TokenScores]) -> TokenScores:
    """The scores of chunks, one behind the other."""
    return TokenScores(
        logps=torch.cat([part.logps for part in parts]),
        kl=_join([part.kl for part in parts]),
        entropy=_join([part.entropy for part in parts]),
        js=_join([part.js for part in parts]),
    )


def _join(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _slopes(logprobs: Tensor, ref_logprobs: Tensor | None, weights: ScoreWeights) -> Tensor | None:
    """[n, V]: derivatives with respect to probabilities, up to a constant of each row."""
    if weights.entropy is None and weights.js is None:
        return None
    bounded = bounded_logprobs(logprobs)
    slopes = torch.zeros_like(bounded)
    if weights.entropy is not None:
        slopes.addcmul_(bounded, weights.entropy[:, None], value=-1)
    if weights.js is not None:
        assert ref_logprobs is not None
        mean = torch.logaddexp(bounded, bounded_logprobs(ref_logprobs)).sub_(math.log(2))
        slopes.addcmul_(bounded - mean, weights.js[:, None], value=1 / (2 * math.log(2)))
    return slopes


def _difference(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if other is None:
        return one
    return -other if one is None else one - other
