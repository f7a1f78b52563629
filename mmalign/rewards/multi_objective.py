"""Several rewards as one number: along a direction, or with weights that fit the prompt."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import ShapeError

__all__ = [
    "Calibration",
    "Direction",
    "PromptWeights",
    "calibrate",
    "direction_at",
    "kl_shaped_rewards",
    "orchestrated_rewards",
    "prompt_weights",
    "scalarised_rewards",
    "target_weights",
    "unit_direction",
]

Floats = NDArray[np.float64]


class Direction(NamedTuple):
    """What a user wants of two rewards: a unit vector."""

    helpfulness: float
    verbosity: float


class PromptWeights(NamedTuple):
    """A direction as a prompt states it, in hundredths."""

    helpfulness: int
    verbosity: int


@dataclass(frozen=True)
class Calibration:
    """Mean and standard deviation of each reward model, fixed before training."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse a reward model that is constant or has no numbers."""
        mean, std = _finite("mean", self.mean, 1), _finite("std", self.std, 1)
        if mean.shape != std.shape:
            raise ShapeError(f"{len(mean)} means but {len(std)} standard deviations")
        for place, value in enumerate(std):
            if not value > 0:
                raise ShapeError(
                    f"reward model {place} has the standard deviation {value}, expected a positive "
                    f"one; a constant reward cannot be standardised, leave it out"
                )

    def standardise(self, rewards: Any) -> Floats:
        """Rewards as (reward - mean) / std.

        Args:
            rewards: [B, K], one column for each reward model.

        Raises:
            ShapeError: Another number of columns, or a reward that is NaN or infinite.
        """
        found = _finite("rewards", rewards, 2)
        if found.shape[1] != len(self.mean):
            raise ShapeError(
                f"rewards {list(found.shape)}, expected [B, {len(self.mean)}], one column for each "
                f"calibrated reward model"
            )
        standardised: Floats = (found - np.array(self.mean)) / np.array(self.std)
        return standardised


def calibrate(rewards: Any) -> Calibration:
    """Mean and standard deviation (over n, not n - 1) of each column; a reconstruction.

    Args:
        rewards: [n, K], on responses set aside for this, never on the batch.

    Raises:
        ShapeError: Not two-dimensional, not finite, or a column that is constant.
    """
    found = _finite("rewards", rewards, 2)
    return Calibration(tuple(found.mean(0).tolist()), tuple(found.std(0).tolist()))


def direction_at(angle_deg: float) -> Direction:
    """The unit vector (cos, sin) of an angle: 0 is helpfulness alone, 90 verbosity alone.

    Args:
        angle_deg: In degrees; negative ones ask for short answers. DPA trains on [-45, 45].

    Raises:
        ShapeError: The angle is NaN or infinite.

    Source: DPA (Wang et al., 2024).
    """
    if not math.isfinite(angle_deg):
        raise ShapeError(f"angle_deg is {angle_deg}, expected degrees")
    angle = math.radians(angle_deg)
    return Direction(math.cos(angle), math.sin(angle))


def unit_direction(weights: Sequence[float]) -> list[float]:
    """The weights as a vector of length 1.

    Args:
        weights: One for each reward; warns when their length is off by more than 0.001.

    Raises:
        ShapeError: All weights are 0, or one is NaN or infinite.
    """
    found = _finite("weights", weights, 1)
    length = float(np.linalg.norm(found))
    if length == 0:
        raise ShapeError(f"the direction {list(weights)} has length 0 and points nowhere")
    if abs(length - 1) > 1e-3:
        warnings.warn(
            f"the direction {list(weights)} has length {length:g}, taken as length 1", stacklevel=2
        )
    unit: list[float] = (found / length).tolist()
    return unit


def prompt_weights(direction: Direction) -> PromptWeights:
    """The two integers that stand for a direction in the prompt: round(100 * weight).

    Squared they sum to 10 000 within 1.5 %; the direction itself stays exact in the scores.

    Source: DPA (Wang et al., 2024).
    """
    return PromptWeights(round(100 * direction.helpfulness), round(100 * direction.verbosity))


def scalarised_rewards(rewards: Any, direction: Sequence[float]) -> Floats:
    """Several rewards of each response as one: their product with a direction.

        score = sum over objectives of direction_k * reward_k

    Args:
        rewards: [N, K], all on one scale (0 to 100 in DPA): on different ones an angle has no
            meaning.
        direction: K weights, such as `direction_at`.

    Returns:
        [N], of any sign; a common factor > 0 or a common offset keeps their order.

    Raises:
        ShapeError: The numbers of objectives differ, or a number is NaN or infinite.

    Source: DPA (Wang et al., 2024).
    """
    found, weights = _finite("rewards", rewards, 2), _finite("direction", direction, 1)
    if found.shape[1] != len(weights):
        raise ShapeError(
            f"rewards {list(found.shape)} against a direction of {len(weights)} weights, expected "
            f"one weight for each column"
        )
    scores: Floats = found @ weights
    return scores


def target_weights(
    preferred_rewards: Any,
    calibration: Calibration,
    *,
    temperature: float = 0.1,
    rejected_rewards: Any = None,
) -> Floats:
    """Weights of the objectives that a prompt's preferred response speaks for.

        z       = (reward - mean) / std
        weights = softmax(z / temperature) over the objectives

    Args:
        preferred_rewards: [B, K], raw, of each prompt's preferred response.
        calibration: Mean and std of the K reward models; standardising is a reconstruction.
        temperature: > 0; large ones give equal weights, small ones 1 to the best objective.
        rejected_rewards: [B, K]; where given, z is the standardised difference of the two
            responses, a reconstruction that mends the low harmlessness weight of a prompt whose
            preferred response complies.

    Returns:
        [B, K], each row >= 0 with the sum 1.

    Raises:
        ShapeError: Wrong shapes, NaN, or a temperature that is not positive.

    Source: Preference Orchestrator (Liu et al., 2025).
    """
    if not 0 < temperature < math.inf:
        raise ShapeError(f"temperature is {temperature}, expected a positive finite number")
    z = calibration.standardise(preferred_rewards)
    if rejected_rewards is not None:
        rejected = calibration.standardise(rejected_rewards)
        if rejected.shape != z.shape:
            raise ShapeError(
                f"preferred_rewards {list(z.shape)}, rejected_rewards {list(rejected.shape)}, "
                f"expected one shape"
            )
        z = z - rejected
    logits = z / temperature
    shares = np.exp(logits - logits.max(1, keepdims=True))
    weights: Floats = shares / shares.sum(1, keepdims=True)
    return weights


def orchestrated_rewards(rewards: Any, weights: Any, calibration: Calibration) -> Floats:
    """Reward of each sampled response with the weights of its own prompt.

        reward = sum over objectives of weight_k * (reward_k - mean_k) / std_k

    Args:
        rewards: [B, K], raw.
        weights: [B, K], from the adapter, the user or fixed; each row >= 0 with the sum 1 within
            1e-6.
        calibration: That of the K reward models.

    Returns:
        [B], in standard deviations; equal weights give the mean of the standardised rewards.

    Raises:
        ShapeError: Wrong shapes, NaN, or weights that are not such rows.

    Source: Preference Orchestrator (Liu et al., 2025).
    """
    standardised, shares = calibration.standardise(rewards), _finite("weights", weights, 2)
    if shares.shape != standardised.shape:
        raise ShapeError(
            f"rewards {list(standardised.shape)}, weights {list(shares.shape)}, expected one shape"
        )
    for row, total in enumerate(shares.sum(1)):
        if shares[row].min() < 0 or abs(total - 1) > 1e-6:
            raise ShapeError(
                f"weights[{row}] is {shares[row].tolist()}, expected numbers >= 0 with the sum 1"
            )
    combined: Floats = (shares * standardised).sum(1)
    return combined


def kl_shaped_rewards(rewards: Any, policy_logps: Any, ref_logps: Any, *, beta: float) -> Floats:
    """Reward of each sample less its share of the KL to the reference.

        shaped = reward - beta * (policy_logps - ref_logps)

    Args:
        rewards: [B].
        policy_logps: [B], nats, summed over response tokens.
        ref_logps: [B], the same under the reference.
        beta: > 0.

    Returns:
        [B].

    Raises:
        ShapeError: The three differ in length, a number is NaN, or beta is not positive.
    """
    if not 0 < beta < math.inf:
        raise ShapeError(f"beta is {beta}, expected a positive finite number")
    given = {"rewards": rewards, "policy_logps": policy_logps, "ref_logps": ref_logps}
    found = {name: _finite(name, values, 1) for name, values in given.items()}
    if len({values.shape for values in found.values()}) > 1:
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in found.items())
        raise ShapeError(f"expected one number per sample, found {shapes}")
    shaped: Floats = found["rewards"] - beta * (found["policy_logps"] - found["ref_logps"])
    return shaped


def _finite(name: str, values: Any, num_axes: int) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != num_axes or found.size == 0:
        raise ShapeError(
            f"{name} {list(found.shape)}, expected {num_axes} axes and at least one number"
        )
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ShapeError(f"{name}{list(place)} is {found[place]}, expected a number")
    return found
