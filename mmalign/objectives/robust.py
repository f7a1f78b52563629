"""DPO on labels that are swapped at a known rate, and how that rate is found.

Assumes swaps that do not depend on the content of a pair. Not R-DPO, which regularises length,
nor Dr. DPO, which is robust to a shifted distribution.
"""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives.configs import BetaConfig, Positive
from mmalign.objectives.pairwise import cdpo_loss
from mmalign.objectives.sums import require_one_per_pair, require_positive
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "PairFlipRates",
    "RobustDPOConfig",
    "flip_rate_from_disagreement",
    "flipped_pairs",
    "gradient_weights",
    "pair_flip_rates",
    "robust_dpo_loss",
]


class RobustDPOConfig(BetaConfig):
    """Settings of robust_dpo."""

    flip_rate: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Share of swapped labels; above 0.4 the variance is large. Source: rDPO, sec. 6."""
    weight_cap: Positive | None = None
    """Largest weight with which a pair may pull, a reconstruction; none: as in the paper."""


def robust_dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
    flip_rate: float | Tensor,
    weight_cap: float | None = None,
) -> PreferenceLoss:
    """DPO whose mean over random swaps of the labels is DPO's loss on the true labels.

        margin = chosen_reward - rejected_reward
        loss   = ((1 - eps) * -log sigmoid(margin) - eps * -log sigmoid(-margin)) / (1 - 2 * eps)
        weight = -d loss / d margin = sigmoid(-margin) + eps / (1 - 2 * eps)

    It is cDPO with the label smoothing -eps / (1 - 2 * eps). Where cDPO stops at a margin, this
    loss pushes for ever and has no lower bound: stop by clean accuracy, not by the loss.

    Args:
        policy_chosen_logps: [B], nats, summed; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, summed; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse temperature, > 0.
        flip_rate: eps, the share of swapped labels, in [0, 0.5), or one for each pair [B] as
            `pair_flip_rates` checks them, detached; 0 is DPO. The variance of the gradient
            grows by 1 / (1 - 2 * eps)^2.
        weight_cap: Scale the loss of a pair down, value and gradient, so that its weight stays
            below this; a reconstruction. None leaves the loss of the paper.

    Returns:
        Loss per pair [B], of either sign, log 2 where policy equals reference; both rewards;
        metrics `gradient_weight` (after the cap).

    Raises:
        ShapeError: The tensors are not [B] with the same B, the rate lies outside [0, 0.5), or
            beta or the cap is not positive.

    Source: rDPO (Ray Chowdhury et al., 2024); the loss that TRL calls "robust".
    """
    if isinstance(flip_rate, Tensor):
        require_one_per_pair(policy_chosen_logps=policy_chosen_logps, flip_rate=flip_rate)
        flip_rate = flip_rate.detach()
    else:
        _require_flip_rate(flip_rate)
    label_smoothing = -flip_rate / (1 - 2 * flip_rate)
    smoothed = cdpo_loss(
        policy_chosen_logps,
        policy_rejected_logps,
        ref_chosen_logps,
        ref_rejected_logps,
        beta=beta,
        label_smoothing=label_smoothing,
    )
    weights = gradient_weights(
        smoothed.chosen_rewards - smoothed.rejected_rewards, label_smoothing=label_smoothing
    )
    if weight_cap is None:
        return smoothed._replace(metrics={"gradient_weight": weights})
    require_positive(weight_cap=weight_cap)
    capped = weights.clamp(max=weight_cap)
    return smoothed._replace(
        loss=smoothed.loss * (capped / weights), metrics={"gradient_weight": capped}
    )


def gradient_weights(margins: Tensor, *, label_smoothing: float | Tensor) -> Tensor:
    """How hard each pair pulls its margin up under `cdpo_loss`: -d loss / d margin.

        weight = sigmoid(-margin) - label_smoothing

    Args:
        margins: [B], chosen_reward - rejected_reward, beta included.
        label_smoothing: eps of cDPO, or -eps / (1 - 2 * eps) for robust DPO, which makes the
            weight positive everywhere; one number or [B].

    Returns:
        [B], detached; negative where the pair pulls its margin down.

    Source: cDPO (Mitchell, 2023); rDPO (Ray Chowdhury et al., 2024).
    """
    return torch.sigmoid(-margins.detach()) - label_smoothing


def flip_rate_from_disagreement(disagreement: float) -> float:
    """The flip rate of annotators who label the same pairs twice; a reconstruction.

    Two independent labels differ where exactly one is swapped: d = 2 * eps * (1 - eps).

    Args:
        disagreement: d, share of the pairs whose two labels differ, in [0, 0.5).

    Returns:
        eps = (1 - sqrt(1 - 2 * d)) / 2, in [0, 0.5).

    Raises:
        ShapeError: The share lies outside: annotators at 0.5 and beyond are no better than
            chance.
    """
    if not 0 <= disagreement < 0.5:
        raise ShapeError(
            f"disagreement is {disagreement}, expected [0, 0.5): labels that differ in half of "
            f"the pairs or more are no better than chance"
        )
    return (1 - math.sqrt(1 - 2 * disagreement)) / 2


class PairFlipRates(NamedTuple):
    """A flip rate for each pair."""

    rates: tuple[float, ...]
    """Each in [0, 0.5)."""
    num_default: int
    """How many pairs had no rating of their own."""


def pair_flip_rates(agreements: Sequence[float | None], *, default: float) -> PairFlipRates:
    """The flip rate of each pair from the agreement of its raters.

    Args:
        agreements: Share of a pair's raters who agree with its label, in (0.5, 1]; None where
            the pair was not rated.
        default: Flip rate of the pairs without ratings, in [0, 0.5).

    Returns:
        1 - agreement of each pair, or the default, and how often it was taken.

    Raises:
        RecordError: An agreement lies outside (0.5, 1] or is NaN; with the pair.
        ShapeError: The default lies outside [0, 0.5).

    Source: rDPO (Ray Chowdhury et al., 2024), its loss pair by pair.
    """
    _require_flip_rate(default)
    for place, agreement in enumerate(agreements):
        if agreement is not None and not 0.5 < agreement <= 1:
            raise RecordError(
                f"pair {place}: agreement is {agreement}, expected (0.5, 1]: a label that half "
                f"of the raters reject says nothing; drop the pair or swap its sides"
            )
    rates = tuple(default if agreement is None else 1 - agreement for agreement in agreements)
    return PairFlipRates(rates, num_default=sum(agreement is None for agreement in agreements))


def flipped_pairs(draws: Sequence[float], *, flip_rate: float) -> tuple[bool, ...]:
    """Which pairs an experiment on label noise swaps.

    Args:
        draws: Uniform random numbers in [0, 1), one per pair, from the caller's seeded source.
        flip_rate: eps, in [0, 0.5).

    Returns:
        True where the draw lies below the rate; a draw equal to it does not swap.

    Raises:
        ShapeError: A draw lies outside [0, 1) or is NaN, or the rate outside [0, 0.5).

    Source: rDPO (Ray Chowdhury et al., 2024), the experiments.
    """
    _require_flip_rate(flip_rate)
    for place, draw in enumerate(draws):
        if not 0 <= draw < 1:
            raise ShapeError(f"draws[{place}] is {draw}, expected a number in [0, 1)")
    return tuple(draw < flip_rate for draw in draws)


def _require_flip_rate(rate: float) -> None:
    if not 0 <= rate < 0.5:
        raise ShapeError(
            f"flip_rate is {rate}, expected [0, 0.5): at 0.5 the labels carry no information"
        )
