"""Accelerated preference optimisation: a step of momentum between two iterations.

It has nothing to do with Anchored Preference Optimization, which is abbreviated alike.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.pairwise import log_ratio_rewards
from mmalign.objectives.sums import (
    at_least_float32,
    require_finite,
    require_positive,
    require_same_shape,
)
from mmalign.objectives.terms import PreferenceLoss

__all__ = ["extrapolated_logprobs", "extrapolated_weights", "reward_margin_ipo_loss"]


def extrapolated_weights(
    trained: Mapping[str, Tensor], trained_before: Mapping[str, Tensor], *, alpha: float
) -> dict[str, Tensor]:
    """The weights with which the next iteration samples, starts and is compared.

        weight = trained + alpha * (trained - trained_before)

    Args:
        trained: Weights that this iteration ended with, by name. Tied weights stand under one
            name; the weights of an adapter must be merged first, as the product of two
            extrapolated factors is not the extrapolated product.
        trained_before: Weights that the iteration before ended with, the base model's in the
            first one: not those that this iteration started from.
        alpha: Momentum, in [0, 1); 0.3 in the paper, 0 gives plain iterations.

    Returns:
        New tensors under the same names, summed in float32 at least and cast once to the type of
        `trained`. Integer buffers are those of `trained`.

    Raises:
        ShapeError: Names or shapes differ, alpha is out of range, or a sum is not finite.

    Source: APO (He et al., 2024), step in the space of parameters.
    """
    _require_momentum(alpha)
    if trained.keys() != trained_before.keys():
        odd = sorted(trained.keys() ^ trained_before.keys())
        raise ShapeError(
            f"{odd[0]!r} is in one checkpoint only ({len(odd)} such names); both must be of one "
            f"base and of one form"
        )
    return {
        name: _extrapolated_weight(name, weight, trained_before[name], alpha)
        for name, weight in trained.items()
    }


def extrapolated_logprobs(
    trained_logprobs: Tensor, trained_before_logprobs: Tensor, *, alpha: float
) -> Tensor:
    """The policy whose odds are moved once more, by the factor alpha, as they moved before.

    For policies that are linear in their logits it is what `extrapolated_weights` gives.

    Args:
        trained_logprobs: [..., V], log-probabilities that this iteration ended with.
        trained_before_logprobs: [..., V], those that the iteration before ended with.
        alpha: Momentum, in [0, 1).

    Returns:
        [..., V], normalised log-probabilities.

    Raises:
        ShapeError: The tensors differ in shape, or alpha is out of range.

    Source: APO (He et al., 2024), step in the space of policies.
    """
    _require_momentum(alpha)
    require_same_shape(
        trained_logprobs=trained_logprobs, trained_before_logprobs=trained_before_logprobs
    )
    moved = trained_logprobs + alpha * (trained_logprobs - trained_before_logprobs)
    return moved.log_softmax(-1)


def reward_margin_ipo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
    tau: float,
) -> PreferenceLoss:
    """IPO on rewards instead of log-ratios, as the iterations of APO state it.

        loss = (chosen_reward - rejected_reward - 1 / tau)^2

    It is beta^2 times `ipo_loss` with beta * tau / 2 in place of its beta.

    Args:
        policy_chosen_logps: [B], nats, summed over response tokens; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, from the extrapolated policy that the iteration started
            from; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse temperature, > 0.
        tau: Inverse of the margin of rewards sought, > 0; not the tau of IPO.

    Returns:
        Loss per pair [B], 1 / tau^2 where policy equals reference, and both rewards.

    Raises:
        ShapeError: The tensors are not [B] with the same B, or a setting is not positive.

    Source: APO (He et al., 2024).
    """
    require_positive(tau=tau)
    chosen_rewards, rejected_rewards = log_ratio_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    return PreferenceLoss(
        loss=(chosen_rewards - rejected_rewards - 1 / tau).square(),
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
    )


def _extrapolated_weight(name: str, weight: Tensor, before: Tensor, alpha: float) -> Tensor:
    require_same_shape(**{f"trained[{name!r}]": weight, f"trained_before[{name!r}]": before})
    if not weight.is_floating_point():
        return weight.clone()
    with torch.no_grad():
        wide = at_least_float32(weight)  # half precision would round the small step away
        moved = (wide + alpha * (wide - at_least_float32(before))).to(weight.dtype)
        require_finite(**{name: moved})
    return moved


def _require_momentum(alpha: float) -> None:
    if not 0 <= alpha < 1:
        raise ShapeError(f"alpha is {alpha}, expected 0 <= alpha < 1: from 1 on it diverges")
