"""Accelerated preference optimisation in closed form, on policies over a few answers."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.diagnostics.tabular import tilted_policy
from mmalign.errors import ShapeError
from mmalign.objectives.extrapolation import extrapolated_logprobs

__all__ = ["AcceleratedPolicies", "accelerated_policies", "accelerated_rewards"]


class AcceleratedPolicies(NamedTuple):
    """Log-probabilities of all policies of a run of T iterations."""

    trained: Tensor
    """[T + 1, ..., A], what each iteration ends with, the reference first; the last one is the
    method's output."""
    extrapolated: Tensor
    """[T + 1, ..., A], what each iteration starts from, the reference first; a run has no use
    for the last one."""


def accelerated_policies(
    ref_logprobs: Tensor, step_rewards: Tensor, *, alpha: float, beta: float
) -> AcceleratedPolicies:
    """The exact solutions of a run of accelerated preference optimisation.

        trained[t + 1]      = extrapolated[t] * exp(reward[t] / beta) / Z
        extrapolated[t + 1] = trained[t + 1] * (trained[t + 1] / trained[t])^alpha / Z

    Args:
        ref_logprobs: [..., A], nats, normalised.
        step_rewards: [T, ..., A], the reward that the pairs of each iteration express.
        alpha: Momentum, in [0, 1); 0 gives plain iterations.
        beta: Weight of each iteration's KL, > 0.

    Raises:
        ShapeError: The shapes do not fit, or a setting is out of range.

    Source: APO (He et al., 2024).
    """
    trained, extrapolated = [ref_logprobs], [ref_logprobs]
    for reward in step_rewards:
        trained.append(tilted_policy(extrapolated[-1], reward, beta=beta))
        extrapolated.append(extrapolated_logprobs(trained[-1], trained[-2], alpha=alpha))
    return AcceleratedPolicies(torch.stack(trained), torch.stack(extrapolated))


def accelerated_rewards(step_rewards: Tensor, *, alpha: float) -> Tensor:
    """The reward whose one-step optimum each iteration of such a run ends with.

        total[t] = sum over i <= t of (1 - alpha^(t + 1 - i)) / (1 - alpha) * reward[i]

    Args:
        step_rewards: [T, ..., A].
        alpha: Momentum, in [0, 1).

    Returns:
        [T, ..., A]; early rewards count up to 1 / (1 - alpha) times.

    Raises:
        ShapeError: alpha is out of range.

    Source: APO (He et al., 2024).
    """
    if not 0 <= alpha < 1:
        raise ShapeError(f"alpha is {alpha}, expected 0 <= alpha < 1: from 1 on it diverges")
    ages = torch.arange(len(step_rewards), device=step_rewards.device)
    ages = ages[:, None] - ages + 1  # iterations that a reward has been part of
    weights = (1 - alpha ** ages.clamp(min=0).to(step_rewards.dtype)) / (1 - alpha)
    return torch.einsum("ti,i...->t...", weights, step_rewards)
