"""How far policy and reference are apart: estimates from taken tokens, and the full vocabulary."""

import math
from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives.sums import at_least_float32, require_same_shape

__all__ = [
    "MAX_LOG_RATIO",
    "KLEstimator",
    "bounded_logprobs",
    "entropy_of_logprobs",
    "forward_kl",
    "jensen_shannon",
    "kl_estimate",
    "kl_of_logprobs",
]

MAX_LOG_RATIO = 20.0
"""Nats at which a log-ratio is cut before it is exponentiated, as in verl; its gradient ends."""

KLEstimator = Literal["k1", "k2", "k3", "k3_with_k2_gradient", "abs"]
"""How the KL is estimated; see `kl_estimate`."""


def kl_estimate(
    policy_token_logps: Tensor, ref_token_logps: Tensor, *, estimator: KLEstimator = "k3"
) -> Tensor:
    """A one-sample estimate of the policy's KL from the reference at each token.

        d  = ref_token_logps - policy_token_logps
        k1 = -d                     unbiased, of either sign
        k2 = d^2 / 2                biased, >= 0; its gradient is the KL's
        k3 = exp(d) - d - 1         unbiased, >= 0; its gradient 1 - exp(d) is not the KL's

    Args:
        policy_token_logps: [B, T], nats, of tokens that the policy sampled; carries gradient
            where the KL stands in the loss, none where it stands in the reward.
        ref_token_logps: [B, T], nats, from the frozen reference; carries no gradient.
        estimator: One of the three above; `abs` is |d|; `k3_with_k2_gradient` has the value of
            k3 and the gradient of k2 (k3+ in verl).

    Returns:
        [B, T], nats, at least float32, 0 where both agree. In k3, d is cut at +-20.

    Raises:
        ShapeError: The two differ in shape.

    Source: Approximating KL divergence (Schulman, 2020); k3 in DeepSeekMath (Shao et al., 2024),
        eq. 4.
    """
    require_same_shape(policy_token_logps=policy_token_logps, ref_token_logps=ref_token_logps)
    d = at_least_float32(ref_token_logps.detach()) - at_least_float32(policy_token_logps)
    match estimator:
        case "k1":
            return -d
        case "k2":
            return d.square() / 2
        case "k3":
            return _k3(d)
        case "k3_with_k2_gradient":
            k2 = d.square() / 2
            return k2 + (_k3(d) - k2).detach()
        case "abs":
            return d.abs()


def _k3(d: Tensor) -> Tensor:
    d = d.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.expm1(d) - d  # exp(d) - d - 1 loses all digits for small d


def forward_kl(policy_logits: Tensor, ref_logprobs: Tensor) -> Tensor:
    """KL(reference || policy) over the vocabulary.

    Args:
        policy_logits: [..., V], raw; carries gradient.
        ref_logprobs: [..., V], normalised, no gradient; -inf where the reference gives nothing.

    Returns:
        [...], nats, >= 0 up to rounding, computed in float32 at least; its gradient with
        respect to the logits is policy - reference.

    Raises:
        ShapeError: The two differ in shape, as with different vocabularies.
    """
    require_same_shape(policy_logits=policy_logits, ref_logprobs=ref_logprobs)
    return kl_of_logprobs(at_least_float32(policy_logits).log_softmax(-1), ref_logprobs)


def kl_of_logprobs(policy_logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """KL(reference || policy) over the vocabulary, of log-probabilities that are normalised.

    Equals `forward_kl` in value; its gradient is to the log-probabilities, not to logits.

    Args:
        policy_logprobs: [..., V], nats; carries gradient, -reference at each entry.
        ref_logprobs: [..., V], nats; -inf where the reference gives nothing. A frozen one
            carries no gradient; what does is given its own.

    Returns:
        [...], nats, >= 0 up to rounding.

    Raises:
        ShapeError: The two differ in shape, as with different vocabularies.
    """
    require_same_shape(policy_logprobs=policy_logprobs, ref_logprobs=ref_logprobs)
    ref_logprobs = at_least_float32(ref_logprobs)
    ref_probs = ref_logprobs.exp()
    gaps = ref_logprobs - at_least_float32(policy_logprobs)
    gaps = torch.where(ref_probs > 0, gaps, 0.0)  # 0 * inf is NaN
    return (ref_probs * gaps).sum(-1)


def entropy_of_logprobs(logprobs: Tensor) -> Tensor:
    """Entropy of a distribution over the vocabulary.

    Args:
        logprobs: [..., V], nats, normalised; -inf where the probability is 0. Carries gradient.

    Returns:
        [...], nats, in [0, log V] up to rounding, at least float32.
    """
    logprobs = bounded_logprobs(at_least_float32(logprobs))
    return -(logprobs.exp() * logprobs).sum(-1)


def jensen_shannon(logprobs: Tensor, other_logprobs: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two distributions over the vocabulary, in bits.

        m      = (p + q) / 2
        result = KL(p || m) / 2 + KL(q || m) / 2

    Args:
        logprobs: [..., V], nats, normalised; -inf where the probability is 0. Carries gradient.
        other_logprobs: [..., V]; carries gradient, and a frozen one has none.

    Returns:
        [...], in [0, 1]; 0 for equal distributions, 1 for ones without a common token, the same
        in either order. What rounding leaves below 1e-12 is 0.

    Raises:
        ShapeError: The two differ in shape.
    """
    require_same_shape(logprobs=logprobs, other_logprobs=other_logprobs)
    p, q = (bounded_logprobs(at_least_float32(x)) for x in (logprobs, other_logprobs))
    mean = torch.logaddexp(p, q) - math.log(2)
    bits = (kl_of_logprobs(mean, p) + kl_of_logprobs(mean, q)) / (2 * math.log(2))
    return bits.where(bits >= 1e-12, 0.0).clamp(max=1.0)


def bounded_logprobs(logprobs: Tensor) -> Tensor:
    """-inf as -1e4 nats, a probability of 0 in every dtype: 0 * inf and inf - inf are NaN."""
    return logprobs.clamp(min=-1e4)
