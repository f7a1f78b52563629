"""Uncertainty of a pair: its measure, and the choices and labels that follow."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mmalign.errors import ShapeError
from mmalign.selection.uncertainty import (
    bald_scores,
    certainty_weights,
    draw_pairs,
    hard_sampling_probs,
    majority_keeps,
    prescreened_pairs,
    top_bottom_pairs,
    uncertainty_label_smoothing,
)


def passes(*firsts: float) -> NDArray[np.float64]:
    """[T, 1, 2] from each pass's probability that the chosen response is the better."""
    return np.array([[[first, 1 - first]] for first in firsts])


def random_passes(seed: int, num_passes: int = 10, num_pairs: int = 6) -> NDArray[np.float64]:
    first = np.random.default_rng(seed).random((num_passes, num_pairs))
    return np.stack([first, 1 - first], axis=-1)


def test_bald_worked_by_hand() -> None:
    """H(1/2) - H(3/4) = log 2 - (3/4 log 4/3 + 1/4 log 4)."""
    by_hand = math.log(2) - (0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    assert bald_scores(passes(0.75, 0.25))[0] == pytest.approx(by_hand, rel=1e-12)


def test_passes_that_agree_leave_no_uncertainty() -> None:
    assert bald_scores(passes(0.3, 0.3, 0.3))[0] == pytest.approx(0.0, abs=1e-15)
    assert bald_scores(passes(1.0, 1.0))[0] == 0.0


def test_certain_votes_that_split_evenly_are_log_2_apart() -> None:
    assert bald_scores(passes(1.0, 0.0, 1.0, 0.0))[0] == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_bald_lies_between_0_and_log_2(seed: int) -> None:
    found = bald_scores(random_passes(seed))
    assert (found >= 0).all()
    assert (found <= math.log(2)).all()
    assert found.max() > 0.01


def test_majority_is_of_passes_and_not_of_their_mean() -> None:
    assert majority_keeps(passes(0.51, 0.51, 0.01)).tolist() == [True]
    assert majority_keeps(passes(0.49, 0.49, 0.99)).tolist() == [False]


def test_half_of_the_votes_are_no_majority_unless_ties_are_kept() -> None:
    assert majority_keeps(passes(0.9, 0.1)).tolist() == [False]
    assert majority_keeps(passes(0.9, 0.1), keep_ties=True).tolist() == [True]
    assert majority_keeps(passes(0.5, 0.5, 0.1)).tolist() == [True]


def test_weights_worked_by_hand() -> None:
    """1 - 0.2 and 1 - 0.6 make 2/3 and 1/3; squared 0.64 and 0.16 make 4/5 and 1/5."""
    assert certainty_weights([0.2, 0.6]) == pytest.approx([2 / 3, 1 / 3], rel=1e-12)
    assert certainty_weights([0.2, 0.6], exponent=2.0) == pytest.approx([0.8, 0.2], rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_easy_and_hard_probabilities_add_up_to_1_and_rank_in_reverse(seed: int) -> None:
    bald = bald_scores(random_passes(seed))
    easy, hard = certainty_weights(bald), hard_sampling_probs(bald)
    assert easy.sum() == pytest.approx(1.0, rel=1e-12)
    assert hard.sum() == pytest.approx(1.0, rel=1e-12)
    assert np.argsort(easy).tolist() == np.argsort(-hard).tolist()


def test_without_any_uncertainty_all_pairs_are_equally_easy_and_hard() -> None:
    zeros = [0.0, 0.0, 0.0, 0.0]
    assert certainty_weights(zeros).tolist() == [0.25] * 4
    assert hard_sampling_probs(zeros).tolist() == [0.25] * 4
    assert hard_sampling_probs([0.0, 1e-10]).tolist() == [0.0, 1.0]


def test_smoothing_worked_by_hand() -> None:
    """A quarter of log 2 is 1/8; the printed form of two equal pairs 1 / (1 + 1/2)."""
    assert uncertainty_label_smoothing([math.log(2) / 4])[0] == pytest.approx(1 / 8, rel=1e-12)
    printed = uncertainty_label_smoothing([0.3, 0.3], form="printed")
    assert printed == pytest.approx([2 / 3, 2 / 3], rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_safe_smoothing_is_at_most_a_half_and_the_printed_at_least(seed: int) -> None:
    bald = bald_scores(random_passes(seed))
    safe = uncertainty_label_smoothing(bald)
    printed = uncertainty_label_smoothing(bald, form="printed")
    assert ((safe >= 0) & (safe <= 0.5)).all()
    assert ((printed >= 0.5) & (printed <= 1)).all()


def test_draws_are_different_pairs_and_none_of_probability_0() -> None:
    rng = np.random.default_rng(0)
    assert sorted(draw_pairs([0.5, 0.0, 0.3, 0.2], num_drawn=4, rng=rng)) == [0, 2, 3]
    assert draw_pairs([0.0, 1.0], num_drawn=1, rng=rng) == [1]


def test_six_different_rewards_make_nine_and_six_pairs() -> None:
    rewards = [0.1, 0.6, 0.3, 0.5, 0.2, 0.4]
    screened = prescreened_pairs(rewards)
    assert len(screened) == 9
    assert screened[:3] == [(1, 2), (1, 4), (1, 0)]
    assert top_bottom_pairs(rewards) == [(1, 3), (1, 4), (1, 0), (3, 4), (3, 0), (4, 0)]


def test_the_middle_one_of_an_odd_number_is_in_neither_half() -> None:
    assert prescreened_pairs([0.3, 0.1, 0.2]) == [(0, 1)]
    assert prescreened_pairs([0.3]) == []


def test_four_answers_all_take_part() -> None:
    assert len(top_bottom_pairs([0.4, 0.3, 0.2, 0.1])) == 6
    assert top_bottom_pairs([0.1, 0.2]) == [(1, 0)]


def test_equal_rewards_make_no_pair() -> None:
    assert prescreened_pairs([0.5] * 6) == []
    assert top_bottom_pairs([0.5] * 6) == []
    assert prescreened_pairs([0.5, 0.5, 0.5, 0.1]) == [(0, 3), (1, 3)]


def test_refused_inputs_say_what_is_expected() -> None:
    with pytest.raises(ShapeError, match=r"shape \[2, 2\], expected \[T, J, 2\]"):
        bald_scores([[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ShapeError, match=r"pass_probs\[1, 0\] is \[nan, 0.5\].* drop the pair"):
        bald_scores([[[0.5, 0.5]], [[math.nan, 0.5]]])
    with pytest.raises(ShapeError, match="add up to 1"):
        majority_keeps([[[0.5, 0.4]]])
    with pytest.raises(ShapeError, match="expected numbers from 0 to log 2"):
        hard_sampling_probs([0.1, 0.8])
    with pytest.raises(ShapeError, match=r"shape \[0\], expected \[J\]"):
        uncertainty_label_smoothing([])
    with pytest.raises(ShapeError, match="exponent is -1"):
        certainty_weights([0.1], exponent=-1)
    with pytest.raises(ShapeError, match=r"rewards\[1\] is nan"):
        prescreened_pairs([0.1, math.nan])
