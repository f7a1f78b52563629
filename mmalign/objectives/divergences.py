"""Fine-tuning on demonstrations as learning of an implicit reward, under several divergences.

The function that each divergence applies to the reward follows from its convex conjugate; that
derivation is a reconstruction, as the paper's own closed forms were not at hand.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import (
    masked_sum,
    require_positive,
    require_same_shape,
    zero_outside,
)

__all__ = [
    "DemonstrationLoss",
    "Divergence",
    "demonstration_sequence_loss",
    "demonstration_token_loss",
    "reward_utility",
]

Divergence = Literal["tv", "pearson", "hellinger", "rkl"]
"""Between demonstrations and policy: total variation, Pearson's chi squared, squared Hellinger,
reverse KL."""


class DemonstrationLoss(NamedTuple):
    """What an objective says about each demonstration of a batch."""

    loss: Tensor
    """[B], to be minimised; the trainer averages it over the global batch."""
    implicit_rewards: Tensor
    """[B] of whole responses or [B, T] of tokens, detached, 0 outside the mask."""


def demonstration_sequence_loss(
    policy_token_logps: Tensor,
    ref_token_logps: Tensor,
    mask: Tensor,
    *,
    beta: float = 0.1,
    divergence: Divergence,
) -> DemonstrationLoss:
    """Raise the implicit reward of whole demonstrations.

        reward = beta * sum over tokens (policy_token_logps - ref_token_logps)
        loss   = -reward_utility(reward)

    Args:
        policy_token_logps: [B, T], nats; carries gradient.
        ref_token_logps: [B, T], nats, of the model before fine-tuning; detached here.
        mask: [B, T], 1 on response tokens.
        beta: Scale of the reward, > 0; the default is a reconstruction. A sum over hundreds of
            tokens needs a small one, else `pearson` passes its turning point at once.
        divergence: Which utility.

    Returns:
        Loss per demonstration [B] and its reward [B]. Where policy equals reference the loss is
        0, under `rkl` exp(-1).

    Raises:
        ShapeError: The tensors differ in shape, beta is not positive, or the divergence is
            unknown.

    Source: Implicit-reward SFT (Wang et al., 2025); the closed forms are a reconstruction.
    """
    require_positive(beta=beta)
    require_same_shape(
        policy_token_logps=policy_token_logps, ref_token_logps=ref_token_logps, mask=mask
    )
    rewards = beta * masked_sum(policy_token_logps - ref_token_logps.detach(), mask)
    return DemonstrationLoss(
        loss=-reward_utility(rewards, divergence), implicit_rewards=rewards.detach()
    )


def demonstration_token_loss(
    policy_token_logps: Tensor,
    ref_token_logps: Tensor,
    mask: Tensor,
    tokens_per_response: Tensor,
    *,
    beta: float = 1.0,
    divergence: Divergence,
) -> DemonstrationLoss:
    """Raise the implicit reward of each token of the demonstrations; for long answers.

        reward = beta * (policy_token_logps - ref_token_logps)
        loss   = -(sum over tokens of reward_utility(reward)) / tokens_per_response

    The mean over B is the mean over all tokens of the batch, not a mean of means.

    Args:
        policy_token_logps: [B, T], nats; carries gradient.
        ref_token_logps: [B, T], nats, of the model before fine-tuning; detached here.
        mask: [B, T], 1 on response tokens.
        tokens_per_response: Scalar, response tokens over responses, both of the global batch.
        beta: Scale of the reward, > 0; the default is a reconstruction.
        divergence: Which utility.

    Returns:
        Loss per demonstration [B] and the rewards of its tokens [B, T].

    Raises:
        ShapeError: The tensors differ in shape, beta is not positive, or the divergence is
            unknown.

    Source: Implicit-reward SFT (Wang et al., 2025); the level of tokens is a reconstruction.
    """
    require_positive(beta=beta)
    require_same_shape(
        policy_token_logps=policy_token_logps, ref_token_logps=ref_token_logps, mask=mask
    )
    rewards = beta * zero_outside(policy_token_logps - ref_token_logps.detach(), mask)
    utilities = reward_utility(rewards, divergence)
    return DemonstrationLoss(
        loss=-masked_sum(utilities, mask) / tokens_per_response,
        implicit_rewards=rewards.detach(),
    )


def reward_utility(rewards: Tensor, divergence: Divergence) -> Tensor:
    """What a divergence makes of an implicit reward r; its slope never grows with r.

        tv         r
        pearson    r - r^2 / 4
        hellinger  r / (1 + r)       for r >= -1/2, else the tangent 4 * r + 1
        rkl        -exp(-(r + 1))

    So the pull on a demonstration weakens as the policy moves towards it; `tv`, which is plain
    fine-tuning, pulls alike for ever, and `pearson` pushes away beyond r = 2.

    Args:
        rewards: Any shape; carries gradient.
        divergence: Which of them.

    Returns:
        The same shape. At r = 0 it is 0 with slope 1, under `rkl` -exp(-1) with slope exp(-1).

    Raises:
        ShapeError: The divergence is unknown.

    Source: Implicit-reward SFT (Wang et al., 2025), in a reconstruction: -f*(-r) with the
        conjugate f*, without the bounds of its domain under `tv`, continued by its tangent under
        `hellinger`.
    """
    if divergence not in _UTILITIES:
        raise ShapeError(f"divergence is {divergence!r}, expected one of {', '.join(_UTILITIES)}")
    return _UTILITIES[divergence](rewards)


def _hellinger(rewards: Tensor) -> Tensor:
    inside = rewards.clamp(min=-0.5)  # a branch that divides by 0 would give a gradient of NaN
    return inside / (1 + inside) + 4 * (rewards - inside)


_UTILITIES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({
    "tv": lambda rewards: rewards,
    "pearson": lambda rewards: rewards - rewards.square() / 4,
    "hellinger": _hellinger,
    "rkl": lambda rewards: -(-(rewards + 1)).exp(),
})  # fmt: skip
