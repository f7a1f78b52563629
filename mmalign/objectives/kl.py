"""How far policy and reference are apart: estimates from taken tokens, and the full vocabulary."""

from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives.sums import at_least_float32, require_same_shape

__all__ = ["MAX_LOG_RATIO", "KLEstimator", "forward_kl", "kl_estimate", "kl_of_logprobs"]

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
