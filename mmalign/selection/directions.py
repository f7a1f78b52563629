"""Choosing among responses by the direction a user wants, and sampling directions near it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmalign.errors import RecordError, ShapeError
from mmalign.rewards.multi_objective import (
    Direction,
    direction_at,
    scalarised_rewards,
    unit_direction,
)

__all__ = [
    "DirectedChoice",
    "Neighbour",
    "choose_along",
    "first_best",
    "neighbours",
    "turned_direction",
]


class DirectedChoice(NamedTuple):
    """The response that serves a direction best."""

    place: int
    scores: tuple[float, ...]
    """Of all candidates; -inf for those that failed."""


class Neighbour(NamedTuple):
    """A direction near the one that the user wants."""

    angle_deg: float
    direction: Direction
    cosine: float
    """With the user's direction."""
    clipped: bool
    """Whether the border of the valid range moved it; draw again when most are."""


def choose_along(
    rewards: Sequence[Sequence[float] | None], direction: Sequence[float]
) -> DirectedChoice:
    """The candidate of the largest product of rewards and direction.

    DPA fine-tunes on the best of N candidates. RPS takes the best of those made for neighbouring
    directions, scored by the user's direction and not by their own. With positive weights no
    candidate is better in every reward.

    Args:
        rewards: For each candidate its K rewards, all on one scale; None where generation or
            scoring failed.
        direction: The user's own, K weights, such as `direction_at`.

    Returns:
        Place of the best candidate, the first of equal ones, and all scores.

    Raises:
        RecordError: No candidate is left.
        ShapeError: A reward is NaN, or the numbers of objectives differ.

    Source: DPA (Wang et al., 2024); RPS (Mao et al., 2026).
    """
    scores = tuple(
        -math.inf if reward is None else float(scalarised_rewards([reward], direction)[0])
        for reward in rewards
    )
    return DirectedChoice(first_best(scores), scores)


def first_best(scores: Sequence[float]) -> int:
    """Place of the largest score, the first of equal ones.

    Args:
        scores: Finite, or -inf for a candidate that failed.

    Raises:
        RecordError: There is no candidate, or all failed.
        ShapeError: A score is NaN or +inf.
    """
    for place, score in enumerate(scores):
        if math.isnan(score) or score == math.inf:
            raise ShapeError(f"scores[{place}] is {score}, expected a number, or -inf if it failed")
    if not scores or max(scores) == -math.inf:
        raise RecordError(f"none of {len(scores)} candidates can be chosen; skip the prompt")
    return max(range(len(scores)), key=lambda place: scores[place])


def neighbours(
    angle_deg: float,
    uniforms: Sequence[float],
    *,
    max_angle_deg: float = 30.0,
    lowest_deg: float = -45.0,
    highest_deg: float = 45.0,
) -> list[Neighbour]:
    """Directions in a cone around the user's, one response to be drawn for each.

        angle_i = clip(angle + uniform_i * max_angle, lowest, highest)

    Args:
        angle_deg: The user's, as for `direction_at`.
        uniforms: k draws from [-1, 1], k >= 1 (5 in the paper); that they are uniform in the
            angle is a reconstruction.
        max_angle_deg: Half the cone, in [0, 90]; 0 is plain best-of-k.
        lowest_deg: Smallest angle that the model was trained on.
        highest_deg: Largest such angle.

    Returns:
        One for each draw. Where nothing is clipped, cosines are at least cos(max_angle_deg).

    Raises:
        ShapeError: No draw, one outside [-1, 1], or angles out of range.

    Source: RPS (Mao et al., 2026).
    """
    if not 0 <= max_angle_deg <= 90:
        raise ShapeError(f"max_angle_deg is {max_angle_deg}, expected degrees in [0, 90]")
    if not lowest_deg <= angle_deg <= highest_deg:
        raise ShapeError(
            f"angle_deg is {angle_deg}, expected degrees in [{lowest_deg}, {highest_deg}]"
        )
    if not uniforms or not all(-1 <= draw <= 1 for draw in uniforms):
        raise ShapeError(f"uniforms are {list(uniforms)}, expected one or more in [-1, 1]")
    found = []
    for draw in uniforms:
        wanted = angle_deg + draw * max_angle_deg
        near = min(max(wanted, lowest_deg), highest_deg)
        cosine = math.cos(math.radians(near - angle_deg))
        found.append(Neighbour(near, direction_at(near), cosine, clipped=near != wanted))
    return found


def turned_direction(
    direction: Sequence[float], towards: Sequence[float], *, angle_deg: float
) -> list[float]:
    """A direction of any number of objectives, turned by an angle; a reconstruction.

        turned = cos(angle) * direction + sin(angle) * (unit tangent towards `towards`)

    With `towards` drawn from a normal distribution and the angle from [0, max_angle] it is RPS's
    neighbour for more than two objectives.

    Args:
        direction: K weights, the user's.
        towards: K numbers, not along the direction.
        angle_deg: In [0, 90].

    Returns:
        K weights of length 1.

    Raises:
        ShapeError: Lengths differ, the two are parallel, or the angle is out of range.

    Source: RPS (Mao et al., 2026), whose own form has two objectives.
    """
    if not 0 <= angle_deg <= 90 or len(direction) != len(towards):
        raise ShapeError(
            f"angle_deg {angle_deg}, {len(direction)} and {len(towards)} weights, expected degrees "
            f"in [0, 90] and two directions of one length"
        )
    unit, other = np.array(unit_direction(direction)), np.array(towards, dtype=np.float64)
    tangent = other - (other @ unit) * unit
    if not np.linalg.norm(tangent) > 1e-12 * np.linalg.norm(other):
        raise ShapeError(f"{list(towards)} lies along {list(direction)} and points to no side")
    side = tangent / np.linalg.norm(tangent)
    angle = math.radians(angle_deg)
    turned: list[float] = (math.cos(angle) * unit + math.sin(angle) * side).tolist()
    return turned
