"""LongDPO's search: scores, bounds, the memory filter, the choice of a pair."""

import math
from typing import Any

import pytest

from mmalign.errors import ShapeError
from mmalign.selection.segments import (
    SegmentChoice,
    choose_segments,
    contradicts_memory,
    length_score,
    principle_score,
    puct_bounds,
    segment_value,
    top_suggestions,
    ucb_bound,
)

CANDIDATES: dict[str, Any] = {
    "values": [3.0, 2.0, 4.0],
    "bounds": [3.5, 5.0, 4.5],
    "contradicting": [False, True, False],
}


def test_choice_worked_by_hand() -> None:
    """1 has the largest bound and contradicts, so 2 is chosen; of 0 and 1, u = 0.6 draws 1."""
    choice = choose_segments(**CANDIDATES, u=0.6, eta=4.0)
    assert choice == SegmentChoice(chosen=2, rejected=1, refine=False)


def test_a_candidate_that_contradicts_is_never_chosen_but_may_be_rejected() -> None:
    draws = [choose_segments(**CANDIDATES, u=u / 10) for u in range(10)]
    assert {choice.chosen for choice in draws} == {2}
    assert {choice.rejected for choice in draws} == {0, 1}


def test_the_first_of_equal_bounds_is_chosen() -> None:
    choice = choose_segments([1.0, 1.0], [2.0, 2.0], [False, False], u=0.0)
    assert choice.chosen == 0
    assert choice.rejected == 1


@pytest.mark.parametrize(("eta", "refine"), [(4.0, False), (4.0001, True)])
def test_only_a_value_below_eta_is_refined(eta: float, refine: bool) -> None:
    assert choose_segments(**CANDIDATES, u=0.0, eta=eta).refine is refine


def test_there_is_no_pair_where_all_contradict_or_nothing_stands_beside_the_chosen() -> None:
    assert choose_segments([1.0, 2.0], [1.0, 2.0], [True, True], u=0.0) == (None, None, False)
    assert choose_segments([1.0], [1.0], [False], u=0.9) == (0, None, True)
    assert choose_segments([], [], [], u=0.0) == (None, None, False)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bounds": [1.0]}, "values 3, bounds 1, contradicting 3"),
        ({"bounds": [1.0, math.nan, 2.0]}, r"bounds\[1\] is nan"),
        ({"u": 1.0}, r"u is 1.0, expected a number in \[0, 1\)"),
    ],
)
def test_candidates_that_do_not_fit_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        choose_segments(**({"u": 0.0} | CANDIDATES | changed))


def test_scores_are_expectations_and_unread_ones_are_in_the_middle() -> None:
    """Weights 1 and 3 on the scores 2 and 4 give (2 + 12) / 4 = 3.5."""
    assert principle_score([0, 1, 0, 3, 0]) == pytest.approx(3.5)
    assert principle_score([0, 0, 0, 0, 0.2]) == 5
    assert principle_score(None) == principle_score([0, 0, 0, 0, 0]) == 2.5


def test_the_value_is_the_mean_over_principles() -> None:
    assert segment_value([[0, 0, 0, 0, 1], None, [1, 0, 0, 0, 0]]) == pytest.approx(8.5 / 3)


@pytest.mark.parametrize("weights", [[1, 2], [1, 1, 1, 1, -1], [1, 1, 1, 1, math.nan]])
def test_weights_of_other_scores_are_refused(weights: list[float]) -> None:
    with pytest.raises(ShapeError, match="expected five weights from 0 on"):
        segment_value([weights])


def test_a_value_without_principles_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one principle"):
        segment_value([])


def test_ucb_worked_by_hand() -> None:
    """3 + 0.5 * sqrt(2 * ln(8 / 2)); visited as often as its parent, the bonus is cut at 0."""
    by_hand = 3 + 0.5 * math.sqrt(2 * math.log(4))
    assert ucb_bound(3.0, visits=1, parent_visits=8, alpha=0.5) == pytest.approx(by_hand)
    assert ucb_bound(3.0, visits=8, parent_visits=8) == 3.0


def test_without_a_bonus_the_value_alone_ranks() -> None:
    assert ucb_bound(2.25, visits=0, parent_visits=50, alpha=0.0) == 2.25


def test_puct_worked_by_hand() -> None:
    """Priors 3/4 and 1/4; sqrt(4) / 2 = 1 and sqrt(4) / 1 = 2 times the rate."""
    rate = math.log((4 + 19652 + 1) / 19652) + 1.25
    bounds = puct_bounds([1.0, 2.0], [1, 0], [math.log(0.3), math.log(0.1)], parent_visits=4)
    assert bounds == pytest.approx([1 + rate * 0.75, 2 + rate * 0.5], rel=1e-12)


def test_priors_do_not_underflow() -> None:
    bounds = puct_bounds([0.0, 0.0], [0, 0], [-2000.0, -2000.0], parent_visits=1)
    assert bounds[0] == bounds[1] > 0.5


def test_visits_out_of_range_are_refused() -> None:
    with pytest.raises(ShapeError, match="under a parent of 0"):
        ucb_bound(1.0, visits=0, parent_visits=0)
    with pytest.raises(ShapeError, match=r"visits are \[-1\]"):
        puct_bounds([1.0], [-1], [0.0], parent_visits=1)
    with pytest.raises(ShapeError, match="mean_logps 1"):
        puct_bounds([1.0, 2.0], [0, 0], [0.0], parent_visits=1)


def test_the_judge_is_heard_from_the_threshold_on_only() -> None:
    assert contradicts_memory([[0.1, 0.8]], [[False, True]])
    assert not contradicts_memory([[0.9, 0.79]], [[False, True]])
    assert not contradicts_memory([[0.9, 0.95]], [[False, False]])
    assert not contradicts_memory([], [])


def test_verdicts_on_other_facts_and_broken_cosines_are_refused() -> None:
    with pytest.raises(ShapeError, match="differ in shape"):
        contradicts_memory([[0.1, 0.2]], [[True]])
    with pytest.raises(ShapeError, match=r"similarities\[0\] is nan"):
        contradicts_memory([[math.nan]], [[True]])


def test_the_most_confident_suggestions_come_first_and_earlier_ones_before_equals() -> None:
    assert top_suggestions([3, 5, 3, 4, 5]) == [1, 4, 3]
    assert top_suggestions([2, 1], num=3) == [0, 1]
    with pytest.raises(ShapeError, match=r"confidences\[1\] is nan"):
        top_suggestions([1.0, math.nan])


def test_length_score_worked_by_hand() -> None:
    """Half too long 1 - 0.5 / 2, by half too short 1 - (2 - 1) / 3."""
    assert length_score(actual_words=150, target_words=100) == pytest.approx(7.5)
    assert length_score(actual_words=50, target_words=100) == pytest.approx(20 / 3)
    assert length_score(actual_words=100, target_words=100) == 10


@pytest.mark.parametrize("actual", [0, 1, 24, 25, 300, 5000])
def test_a_length_far_off_earns_nothing(actual: int) -> None:
    assert length_score(actual_words=actual, target_words=100) == 0


def test_a_length_without_a_target_is_refused() -> None:
    with pytest.raises(ShapeError, match="target_words is 0"):
        length_score(actual_words=10, target_words=0)
