"""Comparing two methods prompt by prompt."""

import math
from collections.abc import Sequence

from mmalign.errors import ShapeError

__all__ = ["win_rate"]


def win_rate(scores: Sequence[float], other_scores: Sequence[float]) -> float:
    """Share of prompts on which one method scores higher than another; a tie counts 1/2.

    Args:
        scores: One for each prompt.
        other_scores: Those of the method that it is compared with, on the same prompts.

    Returns:
        In [0, 1].

    Raises:
        ShapeError: The lengths differ, there is no prompt, or a score is NaN.
    """
    if not scores or len(scores) != len(other_scores):
        raise ShapeError(
            f"{len(scores)} scores against {len(other_scores)}, expected one each for every prompt"
        )
    if any(math.isnan(score) for score in [*scores, *other_scores]):
        raise ShapeError("a score is NaN, expected a number for every prompt")
    points = [(a > b) + 0.5 * (a == b) for a, b in zip(scores, other_scores, strict=True)]
    return sum(points) / len(points)
