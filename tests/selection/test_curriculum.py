"""The curriculum: scores, their order, how much it moves between epochs."""

import math
from typing import Literal

import pytest

from mmalign.errors import ShapeError
from mmalign.selection.curriculum import curriculum_order, order_correlation, prediction_gap

REWARD_GAPS = [0.4, 1.0, 0.4, 0.7, 1.0]
PREDICTION_GAPS = [0.3, -0.2, 0.1, 0.0, 0.5]


def test_score_and_order_worked_by_hand() -> None:
    """Scaled gaps (0, 1/2, 1) and (0, 1, 1/2): scores 0, 1/2 + 1/2, 1 + 1/4."""
    found = curriculum_order([1.0, 2.0, 3.0], [0.0, 4.0, 2.0], balance=0.5)
    assert found.scores == pytest.approx([0.0, 1.0, 1.25], rel=1e-12)
    assert found.order == [2, 1, 0]


def test_ranks_worked_by_hand() -> None:
    """Of 0.4, 1.0, 0.4, 0.7, 1.0 the others with a smaller gap are 0, 3, 0, 2, 3 of 4."""
    found = curriculum_order(REWARD_GAPS, PREDICTION_GAPS, balance=0.0, scale="rank")
    assert found.scores == [0.0, 0.75, 0.0, 0.5, 0.75]


def test_ranks_ignore_how_far_gaps_lie_apart() -> None:
    one = curriculum_order(REWARD_GAPS, PREDICTION_GAPS, scale="rank")
    other = curriculum_order([gap**3 for gap in REWARD_GAPS], PREDICTION_GAPS, scale="rank")
    assert one == other


def test_without_balance_the_order_is_the_rewards_in_every_epoch() -> None:
    one = curriculum_order(REWARD_GAPS, PREDICTION_GAPS, balance=0.0)
    other = curriculum_order(REWARD_GAPS, PREDICTION_GAPS[::-1], balance=0.0)
    assert one == other
    assert one.order == [1, 4, 3, 0, 2]


@pytest.mark.parametrize("scale", ["minmax", "rank"])
def test_a_changed_policy_moves_the_same_pairs(scale: Literal["minmax", "rank"]) -> None:
    one, other = (
        curriculum_order(REWARD_GAPS, gaps, balance=1.0, scale=scale)
        for gaps in (PREDICTION_GAPS, PREDICTION_GAPS[::-1])
    )
    assert one.order != other.order
    assert sorted(one.order) == sorted(other.order) == list(range(5))


def test_the_sign_decides_whether_known_pairs_come_first_or_last() -> None:
    assert curriculum_order([1.0, 1.0], [0.0, 2.0]).order == [1, 0]
    assert curriculum_order([1.0, 1.0], [0.0, 2.0], prediction_gap_sign=-1).order == [0, 1]


def test_gaps_that_are_all_equal_count_nothing() -> None:
    found = curriculum_order([0.6, 0.6, 0.6], [0.1, 0.1, 0.1])
    assert found == ([0.0, 0.0, 0.0], [0, 1, 2])


def test_prediction_gap_worked_by_hand() -> None:
    """(-1 - 3) / 2 - (-1) / 1 = -1."""
    assert prediction_gap([-1.0, -3.0], [-1.0]) == -1.0


def test_prediction_gap_does_not_grow_with_length() -> None:
    assert prediction_gap([-0.5] * 20, [-1.0] * 4) == pytest.approx(
        prediction_gap([-0.5], [-1.0]), rel=1e-12
    )


def test_order_correlation_worked_by_hand() -> None:
    """Two of three pairs change places: 1 - 6 * (1 + 1) / (3 * 8) = 1/2."""
    assert order_correlation([0, 1, 2], [1, 0, 2]) == 0.5


def test_order_correlation_is_1_at_rest_and_minus_1_reversed() -> None:
    assert order_correlation([2, 0, 1, 3], [2, 0, 1, 3]) == 1.0
    assert order_correlation([2, 0, 1, 3], [3, 1, 0, 2]) == -1.0


def test_refused_inputs_say_what_is_expected() -> None:
    with pytest.raises(ShapeError, match="found reward_gaps 2, prediction_gaps 1"):
        curriculum_order([1.0, 2.0], [1.0])
    with pytest.raises(ShapeError, match=r"prediction_gaps\[1\] is nan"):
        curriculum_order([1.0, 2.0], [1.0, math.nan])
    with pytest.raises(ShapeError, match="balance is -1"):
        curriculum_order([1.0], [1.0], balance=-1)
    with pytest.raises(ShapeError, match="a response has no token; drop the pair"):
        prediction_gap([-1.0], [])
    with pytest.raises(ShapeError, match="two orders of the same two or more pairs"):
        order_correlation([0, 1], [1, 2])
