"""Best and worst of a prompt's responses: ties, brackets, refused input."""

import math
from collections.abc import Sequence

import pytest

from mmalign.errors import RecordError
from mmalign.selection.tournament import (
    BestAndWorst,
    DuelRound,
    Tournament,
    best_and_worst,
    duel_round,
    knockout_tournament,
    score_targets,
)


class FakeJudge:
    """Prefers by score, as Bradley and Terry have it, and remembers what it was asked."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = scores
        self.asked: list[tuple[int, int]] = []

    def __call__(self, first: int, second: int) -> float:
        self.asked.append((first, second))
        return 1 / (1 + math.exp(self.scores[second] - self.scores[first]))


def test_the_first_of_equal_scores_counts() -> None:
    assert best_and_worst([0.2, 0.9, 0.1, 0.9, 0.1]) == BestAndWorst(1, 2, keep=True)


def test_equal_scores_give_no_pair() -> None:
    assert best_and_worst([0.3, 0.3, 0.3]) == BestAndWorst(0, 0, keep=False)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.1], r"shape \[1\], expected 2 or more numbers"),
        ([0.1, math.nan], r"scores\[1\] is nan"),
        ([-math.inf, 0.1], r"scores\[0\] is -inf"),
    ],
)
def test_scores_that_do_not_tell_are_refused(scores: list[float], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        best_and_worst(scores)


def test_targets_worked_by_hand() -> None:
    """Rows of logits - transposed: 0 + 4 - 2 = 2, -4 + 0 + 0 = -4, 2 + 0 + 0 = 2, over 3."""
    targets = score_targets([[0.0, 2.0, -1.0], [-2.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert targets.tolist() == pytest.approx([2 / 3, -4 / 3, 2 / 3], rel=1e-12)


def test_targets_of_a_skew_table_are_twice_its_row_means_and_sum_to_0() -> None:
    rows = [[0.0, 1.3, -0.4], [-1.3, 0.0, 0.8], [0.4, -0.8, 0.0]]
    targets = score_targets(rows)
    assert targets.tolist() == pytest.approx([2 * sum(row) / 3 for row in rows], rel=1e-12)
    assert targets.sum() == pytest.approx(0.0, abs=1e-15)


def test_targets_of_no_square_table_are_refused() -> None:
    with pytest.raises(RecordError, match=r"shape \[1, 2\], expected \[K, K\]"):
        score_targets([[0.0, 1.0]])
    with pytest.raises(RecordError, match="NaN or infinity"):
        score_targets([[0.0, math.nan], [0.0, 0.0]])


def test_a_consistent_judge_finds_the_highest_and_the_lowest_score_by_11_duels() -> None:
    scores = [0.3, -1.0, 2.0, 0.1, -3.0, 1.0, 0.0, 0.5]
    judge = FakeJudge(scores)
    assert knockout_tournament(8, judge) == Tournament(2, 4, keep=True, comparisons=11)
    assert len(judge.asked) == 11
    assert judge.asked[:4] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert judge.asked[-1] == (2, 4)


def test_ties_go_to_the_first_and_the_last_duel_must_be_won() -> None:
    """All ties: winners 0, 2, then 0; losers 1, 3, of which the loser 3 goes on; 0 ties with 3."""
    assert knockout_tournament(4, lambda i, j: 0.5) == Tournament(0, 3, keep=False, comparisons=5)


def test_a_best_that_loses_to_the_worst_gives_no_pair() -> None:
    """2 beats 0, which beats 1; 3 loses to 2 and to 1, and yet beats the best."""
    wins = {(0, 1): 0.9, (2, 3): 0.9, (0, 2): 0.1, (1, 3): 0.9, (2, 3, "last"): 0.2}
    asked: list[tuple[int, int]] = []

    def judge(first: int, second: int) -> float:
        asked.append((first, second))
        again = asked.count((first, second)) == 2
        return wins[(first, second, "last")] if again else wins[first, second]

    assert knockout_tournament(4, judge) == Tournament(2, 3, keep=False, comparisons=5)


def test_two_candidates_meet_twice() -> None:
    assert knockout_tournament(2, FakeJudge([0.0, 1.0])) == Tournament(1, 0, True, comparisons=2)


@pytest.mark.parametrize("num_candidates", [0, 1, 6, 12])
def test_a_bracket_that_does_not_close_is_refused(num_candidates: int) -> None:
    with pytest.raises(RecordError, match=f"2, 4, 8 ... candidates, found {num_candidates}"):
        knockout_tournament(num_candidates, lambda i, j: 0.5)


@pytest.mark.parametrize("answer", [math.nan, 1.2, -0.1])
def test_a_judge_that_answers_no_probability_is_refused(answer: float) -> None:
    with pytest.raises(RecordError, match=f"the judge answered {answer}"):
        knockout_tournament(2, lambda i, j: answer)


def test_a_round_keeps_the_order_of_its_duels() -> None:
    assert duel_round([5, 3, 1, 7], [0.5, 0.49]) == DuelRound([5, 7], [3, 1])
    with pytest.raises(RecordError, match="3 contestants and 1 duels"):
        duel_round([1, 2, 3], [0.5])
