"""Estimates of KL(policy || reference) from the tokens that the policy took."""

from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives.sums import at_least_float32, require_same_shape

__all__ = ["MAX_LOG_RATIO", "KLEstimator", "kl_estimate"]

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
