"""The loop that lets a model write reward programs: who was best and worst, what it is told."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from mmalign.errors import ShapeError
from mmalign.selection.candidates import require_numbers

__all__ = [
    "FAILED_TASK_SCORE",
    "BestWorstRun",
    "ThinnedTrace",
    "best_and_worst_run",
    "preference_queries",
    "reward_task_score",
    "thin_trace",
]

FAILED_TASK_SCORE = -10000.0
"""Of an iteration in which no candidate ran. Source: ICPL's code (Yu et al., 2024)."""


class BestWorstRun(NamedTuple):
    """The candidates of one iteration that the model is shown as good and as bad."""

    status: Literal["ok", "only_one_ran", "all_failed"]
    best: int | None = None
    """None where no candidate ran."""
    worst: int | None = None
    """None where fewer than two ran: then there is no bad example to show."""


class ThinnedTrace(NamedTuple):
    """A reward component over training, short enough for a prompt."""

    step: int
    """Epochs from one kept value to the next."""
    values: list[float]
    max: float
    """Of all epochs, as are the two below."""
    mean: float
    min: float


def best_and_worst_run(task_scores: Sequence[float | None]) -> BestWorstRun:
    """Let the true score stand in for the human who watches the behaviours.

    Of equal scores the first is taken, for both; the worst is never the best.

    Args:
        task_scores: Of each candidate, its largest in training; None or NaN where the run
            failed, and such a candidate is neither best nor worst.

    Raises:
        ShapeError: A score is infinite.

    Source: ICPL (Yu et al., 2024).
    """
    scores = _scores_that_ran(task_scores)
    if not scores:
        return BestWorstRun("all_failed")
    best = max(scores, key=scores.__getitem__)
    others = [place for place in scores if place != best]
    if not others:
        return BestWorstRun("only_one_ran", best)
    return BestWorstRun("ok", best, min(others, key=scores.__getitem__))


def reward_task_score(task_scores: Sequence[float | None]) -> float:
    """The best score of one iteration's candidates; a run's is the largest of its iterations.

    Args:
        task_scores: As for `best_and_worst_run`.

    Returns:
        The largest, or `FAILED_TASK_SCORE` where all failed. From one iteration to the next it
        may fall.

    Raises:
        ShapeError: A score is infinite.

    Source: ICPL (Yu et al., 2024), RTS.
    """
    return max(_scores_that_ran(task_scores).values(), default=FAILED_TASK_SCORE)


def preference_queries(num_candidates: int, num_iterations: int) -> int:
    """How many comparisons of two the human's choices are worth.

        queries = (num_candidates - 1) * 2 * num_iterations - 1

    To find the best takes num_candidates - 1 of them and the worst as many; the last worst is
    not needed.

    Args:
        num_candidates: K, >= 2.
        num_iterations: N, >= 1.

    Raises:
        ShapeError: There is nothing to compare.

    Source: ICPL (Yu et al., 2024).
    """
    if num_candidates < 2 or num_iterations < 1:
        raise ShapeError(
            f"{num_candidates} candidates in {num_iterations} iterations are no comparison; "
            f"expected at least 2 in at least 1"
        )
    return (num_candidates - 1) * 2 * num_iterations - 1


def thin_trace(values: Sequence[float]) -> ThinnedTrace:
    """Every so manieth value of a reward component, so that at most 19 are left.

        step = max(floor(num_epochs / 10), 1)

    Args:
        values: One for each epoch.

    Returns:
        The values at 0, step, 2 * step ..., and the extremes and mean of all.

    Raises:
        ShapeError: No value, or one that is not finite.

    Source: ICPL (Yu et al., 2024).
    """
    require_numbers(values=values)
    if not values:
        raise ShapeError("values is empty; leave a component out that was never logged")
    step = max(len(values) // 10, 1)
    return ThinnedTrace(
        step, list(values[::step]), max(values), math.fsum(values) / len(values), min(values)
    )


def _scores_that_ran(task_scores: Sequence[float | None]) -> dict[int, float]:
    scores = {
        place: score
        for place, score in enumerate(task_scores)
        if score is not None and not math.isnan(score)
    }
    require_numbers(task_scores=list(scores.values()))
    return scores
