"""Is DPO drowning the chosen response? Drastic drop, degradation, dispersion (3D-Properties).

The gradients here are with respect to probabilities of whole responses, in which the paper's
argument is told; the training itself sees the ones with respect to log-probabilities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmalign.errors import ShapeError

__all__ = [
    "Dispersion",
    "Evaluation",
    "GradientRatios",
    "RoleMeans",
    "ThreeDFlags",
    "dispersion",
    "dpo_gradient_ratios",
    "off_policy_side",
    "probability_gradients",
    "three_d_flags",
]

Role = Literal["chosen", "rejected", "unseen"]

DROP_FACTOR = 3.0
"""How many times further the rejected side must fall than the chosen side moves; reconstruction."""
FALLS_IN_A_ROW = 3
"""Evaluations in which the chosen side falls before it counts as suppressed; reconstruction."""


class GradientRatios(NamedTuple):
    """How much harder DPO pushes on the rejected probability than on the chosen one, per pair."""

    ratios: NDArray[np.float64]
    """[B], negative: the sides are pushed apart. -inf for responses of many tokens."""
    log_abs: NDArray[np.float64]
    """[B], nats, always finite: the number to report."""


class RoleMeans(NamedTuple):
    """A mean for each role; None for a role that no response has."""

    chosen: float | None
    rejected: float | None
    unseen: float | None


class Dispersion(NamedTuple):
    """Where the probability of a closed set of responses went."""

    mean_change: RoleMeans
    """Final minus initial probability, mean over the responses of a role."""
    unseen_mass: tuple[float, float]
    """Sum over the unseen responses, before and after."""


@dataclass(frozen=True)
class Evaluation:
    """What is measured at one step of a training."""

    loss: float
    chosen_logp: float
    """Nats per token, mean over pairs."""
    rejected_logp: float
    """Nats per token, mean over pairs."""
    unseen_logp: float | None = None
    """Nats per token, mean over a probe set that no pair holds."""
    entropy: float | None = None
    """Nats per token, of fresh samples."""


class ThreeDFlags(NamedTuple):
    """Which of the three properties a training shows."""

    drastic_drop: bool
    degradation: bool
    dispersion: bool | None
    """None where neither unseen responses nor the entropy were measured."""


def probability_gradients(logp_gradients: ArrayLike, logps: ArrayLike) -> NDArray[np.float64]:
    """Gradients with respect to the probability of each response.

        dl/dp = (dl/dlog p) / p

    Args:
        logp_gradients: [B], of a loss with respect to `logps`.
        logps: [B], nats, summed over the response's tokens.

    Returns:
        [B]; infinite where p underflows, as for responses of hundreds of tokens.

    Raises:
        ShapeError: Not [B] both, or NaN.

    Source: 3D-Properties (Yan et al., 2024), sec. 3.
    """
    gradients, logps = _vectors(logp_gradients=logp_gradients, logps=logps)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(gradients == 0, 0.0, gradients * np.exp(-logps))


def dpo_gradient_ratios(
    policy_chosen_logps: ArrayLike, policy_rejected_logps: ArrayLike
) -> GradientRatios:
    """DPO's gradient of the rejected probability over that of the chosen one.

        ratio = -exp(policy_chosen_logps - policy_rejected_logps)

    It depends neither on beta nor on the reference. A reward model's two gradients have the
    ratio -1 throughout.

    Args:
        policy_chosen_logps: [B], nats, summed; of means per token, the ratio is per token.
        policy_rejected_logps: [B], the same for the rejected response.

    Returns:
        Ratios and the logarithms of their absolute values, [B] each.

    Raises:
        ShapeError: Not [B] both, or NaN.

    Source: 3D-Properties (Yan et al., 2024), corollary 1.
    """
    chosen, rejected = _vectors(
        policy_chosen_logps=policy_chosen_logps, policy_rejected_logps=policy_rejected_logps
    )
    with np.errstate(over="ignore"):
        return GradientRatios(ratios=-np.exp(chosen - rejected), log_abs=chosen - rejected)


def dispersion(
    initial_probs: ArrayLike, final_probs: ArrayLike, roles: Sequence[Role]
) -> Dispersion:
    """Where the probability of a closed set of responses went in training.

    Args:
        initial_probs: [R], probabilities of all responses there are; they add up to 1.
        final_probs: [R], the same after training.
        roles: What each response is.

    Raises:
        ShapeError: Unequal lengths, an unknown role, or no probabilities that add up to 1.

    Source: 3D-Properties (Yan et al., 2024), its toy model of ten responses.
    """
    initial, final = _vectors(initial_probs=initial_probs, final_probs=final_probs)
    if len(roles) != len(initial):
        raise ShapeError(f"{len(roles)} roles for {len(initial)} responses")
    unknown = set(roles) - {"chosen", "rejected", "unseen"}
    if unknown:
        raise ShapeError(f"role {min(unknown)!r}: expected chosen, rejected or unseen")
    for name, probs in (("initial_probs", initial), ("final_probs", final)):
        if (probs < 0).any() or not math.isclose(probs.sum(), 1, abs_tol=1e-6):
            raise ShapeError(
                f"{name} add up to {probs.sum()}, expected probabilities that add up to 1"
            )
    of = {role: np.array([r == role for r in roles]) for role in ("chosen", "rejected", "unseen")}
    changes = {
        role: float((final - initial)[members].mean()) if members.any() else None
        for role, members in of.items()
    }
    unseen = of["unseen"]
    return Dispersion(
        mean_change=RoleMeans(**changes),
        unseen_mass=(float(initial[unseen].sum()), float(final[unseen].sum())),
    )


def three_d_flags(evaluations: Sequence[Evaluation]) -> ThreeDFlags:
    """Which of the three properties a training shows so far; a reconstruction.

    - Drastic drop: since the start, the rejected side fell by more than three times of what the
      chosen side moved, either way.
    - Degradation: at the last three evaluations the chosen side fell while the loss fell too.
    - Dispersion: since the start, the chosen side fell while unseen responses, or the entropy of
      samples, rose.

    Equal numbers count neither as a rise nor as a fall.

    Args:
        evaluations: In the order of steps, the first from before training.

    Raises:
        ShapeError: Fewer than two evaluations, or a number that is NaN.

    Source: the properties are those of 3D-Properties (Yan et al., 2024); the thresholds are not.
    """
    if len(evaluations) < 2:
        raise ShapeError(f"{len(evaluations)} evaluations, expected two or more")
    for number, evaluation in enumerate(evaluations):
        for name, value in vars(evaluation).items():
            if value is not None and math.isnan(value):
                raise ShapeError(f"evaluations[{number}].{name} is NaN, expected a number")
    first, last = evaluations[0], evaluations[-1]
    chosen_change = last.chosen_logp - first.chosen_logp
    rejected_drop = first.rejected_logp - last.rejected_logp
    recent = evaluations[-FALLS_IN_A_ROW - 1 :]
    falls = [
        after.chosen_logp < before.chosen_logp and after.loss < before.loss
        for before, after in pairwise(recent)
    ]
    rises = [
        after > before
        for before, after in (
            (first.unseen_logp, last.unseen_logp),
            (first.entropy, last.entropy),
        )
        if before is not None and after is not None
    ]
    return ThreeDFlags(
        drastic_drop=rejected_drop > DROP_FACTOR * abs(chosen_change),
        degradation=len(falls) == FALLS_IN_A_ROW and all(falls),
        dispersion=any(rises) and chosen_change < 0 if rises else None,
    )


def off_policy_side(
    ref_chosen_mean_logps: ArrayLike, ref_rejected_mean_logps: ArrayLike
) -> Literal["chosen", "rejected"] | None:
    """Which side of the data the reference would hardly have written; a reconstruction.

    Chosen responses from elsewhere against the reference's own errors are common and harmful:
    the paper's scenario 2. The other way round is its scenario 3.

    Args:
        ref_chosen_mean_logps: [B], nats per token, under the reference.
        ref_rejected_mean_logps: [B], the same for the rejected response.

    Returns:
        `chosen` where its mean lies more than 0.3 nats below the other, `rejected` where its own
        lies more than 0.5 below, else None.

    Raises:
        ShapeError: Not [B] both, or NaN.
    """
    chosen, rejected = _vectors(
        ref_chosen_mean_logps=ref_chosen_mean_logps,
        ref_rejected_mean_logps=ref_rejected_mean_logps,
    )
    gap = float((chosen - rejected).mean())
    if gap < -0.3:
        return "chosen"
    return "rejected" if gap > 0.5 else None


def _vectors(**values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = (np.asarray(value, dtype=np.float64) for value in values.values())
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        found = ", ".join(
            f"{name} {list(array.shape)}"
            for name, array in zip(values, (first, second), strict=True)
        )
        raise ShapeError(f"expected two vectors of one length, not empty, found {found}")
    for name, array in zip(values, (first, second), strict=True):
        if np.isnan(array).any():
            raise ShapeError(f"{name}[{int(np.isnan(array).argmax())}] is NaN, expected a number")
    return first, second
