"""Which rollouts of a question become a pair: fewer calls over more, right over wrong."""

import math

import pytest

from mmalign.errors import RecordError
from mmalign.selection.tool_pairs import Attempt, tool_pairs


def test_worked_by_hand() -> None:
    """n = 1: rewards 1 at one call, sin(3 pi / 4) = 0.7071 at three, 0 where wrong."""
    attempts = [Attempt(True, 3), Attempt(True, 1), Attempt(False, 2), Attempt(False, 4)]
    economy, correctness = tool_pairs(attempts, smoothing=4.0)
    assert (economy.pool, economy.chosen, economy.rejected) == ("economy", 1, 0)
    assert economy.chosen_reward == pytest.approx(1.0)
    assert economy.rejected_reward == pytest.approx(math.sqrt(0.5))
    assert economy.fewest_calls == 1
    assert (correctness.pool, correctness.chosen, correctness.rejected) == ("correctness", 1, 3)
    assert correctness.rejected_reward == 0.0


def test_nothing_without_a_right_answer() -> None:
    assert tool_pairs([Attempt(False, 0), Attempt(False, 2)], smoothing=4.0) == ()


def test_the_sides_lie_delta_apart() -> None:
    """Two calls where one would do earn sin(2 pi / 3) = 0.866."""
    attempts = [Attempt(True, 1), Attempt(True, 2)]
    assert len(tool_pairs(attempts, smoothing=4.0, delta=0.13)) == 1
    assert tool_pairs(attempts, smoothing=4.0, delta=0.14) == ()


def test_a_wrong_answer_without_calls_is_never_chosen() -> None:
    (pair,) = tool_pairs([Attempt(False, 0), Attempt(True, 4)], smoothing=4.0)
    assert (pair.pool, pair.chosen, pair.rejected) == ("correctness", 1, 0)


def test_equal_rollouts_give_no_pair() -> None:
    assert tool_pairs([Attempt(True, 2)] * 4, smoothing=4.0) == ()


def test_delta_must_be_positive() -> None:
    with pytest.raises(RecordError, match="delta is 0, expected > 0"):
        tool_pairs([Attempt(True, 1)], smoothing=4.0, delta=0)
