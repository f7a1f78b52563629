"""Reward programs written by a model: who is shown as best and worst, and the numbers beside."""

import math

import pytest

from mmalign.errors import ShapeError
from mmalign.selection.reward_programs import (
    FAILED_TASK_SCORE,
    best_and_worst_run,
    preference_queries,
    reward_task_score,
    thin_trace,
)


def test_best_and_worst_worked_by_hand() -> None:
    """Of 0.2, -0.5 and 1.4 that ran, 1.4 is best and -0.5 worst; NaN and None failed."""
    assert best_and_worst_run([0.2, None, -0.5, math.nan, 1.4]) == ("ok", 4, 2)


def test_the_first_of_equal_scores_is_taken_and_the_worst_is_never_the_best() -> None:
    assert best_and_worst_run([0.5, 0.5, 0.5]) == ("ok", 0, 1)
    assert best_and_worst_run([0.1, 0.5, 0.1, 0.5]) == ("ok", 1, 0)


def test_too_few_runs_have_their_own_status() -> None:
    assert best_and_worst_run([None, 0.3]) == ("only_one_ran", 1, None)
    assert best_and_worst_run([None, math.nan]) == ("all_failed", None, None)
    assert best_and_worst_run([]) == ("all_failed", None, None)


def test_task_score_is_the_best_of_those_that_ran() -> None:
    assert reward_task_score([-3.0, None, -2.0]) == -2.0
    assert reward_task_score([None, math.nan]) == FAILED_TASK_SCORE == -10000.0


def test_queries_worked_by_hand() -> None:
    """5 comparisons for the best and 5 for the worst of 6, five times, less the last worst."""
    assert preference_queries(6, 5) == 49
    assert preference_queries(2, 1) == 1


def test_trace_worked_by_hand() -> None:
    """25 epochs: step 2, thirteen values; of 0 ... 24 the mean is 12."""
    trace = thin_trace([float(epoch) for epoch in range(25)])
    assert trace == (2, [float(epoch) for epoch in range(0, 25, 2)], 24.0, 12.0, 0.0)


@pytest.mark.parametrize("num_epochs", [1, 9, 10, 19, 20, 99, 100, 3000])
def test_a_trace_keeps_at_most_19_values_and_all_of_a_short_one(num_epochs: int) -> None:
    trace = thin_trace([1.0] * num_epochs)
    assert trace.step == max(num_epochs // 10, 1)
    assert len(trace.values) <= 19
    if num_epochs < 20:
        assert len(trace.values) == num_epochs


def test_extremes_are_those_of_the_whole_trace() -> None:
    values = [0.0] * 40
    values[1], values[3] = 5.0, -7.0
    trace = thin_trace(values)
    assert (trace.max, trace.min) == (5.0, -7.0)
    assert set(trace.values) == {0.0}


def test_refused_inputs_say_what_is_expected() -> None:
    with pytest.raises(ShapeError, match=r"task_scores\[1\] is inf"):
        best_and_worst_run([0.0, math.inf])
    with pytest.raises(ShapeError, match="1 candidates in 5 iterations are no comparison"):
        preference_queries(1, 5)
    with pytest.raises(ShapeError, match="values is empty"):
        thin_trace([])
    with pytest.raises(ShapeError, match=r"values\[0\] is nan"):
        thin_trace([math.nan])
