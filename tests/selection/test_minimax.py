"""Pairs of code and test: the minimax rule, its limits, its bad cases."""

import random

import pytest

from mmalign.errors import RecordError
from mmalign.selection.minimax import minimax_pair, random_pair

Results = list[list[int]]


def mixed(seed: int) -> Results:
    """A matrix with a pass and a failure."""
    rng = random.Random(seed)
    num_codes, num_tests = rng.randint(1, 5), rng.randint(2, 5)
    results = [[rng.randint(0, 1) for _ in range(num_tests)] for _ in range(num_codes)]
    results[0][:2] = [1, 0]
    return results


def test_worked_by_hand() -> None:
    """s = (2, 1, 2), t = (3, 1, 1): code 0 with test 1, which it alone passes; of tests 1 and 2,
    each failed by two, the first, and of codes 1 and 2 that fail it the weaker."""
    found = minimax_pair([[1, 1, 0], [1, 0, 0], [1, 0, 1]])
    assert (found.code_scores, found.test_scores) == ([2, 1, 2], [3, 1, 1])
    assert (found.chosen, found.rejected) == ((0, 1), (1, 1))
    assert found.ties == (2, 1, 2, 1)
    assert found.same_test
    assert not found.same_code


def test_the_best_code_may_also_be_the_rejected_one() -> None:
    found = minimax_pair([[1, 1, 0], [0, 0, 1], [0, 0, 1]])
    assert (found.chosen, found.rejected) == ((0, 0), (0, 2))
    assert found.same_code
    assert not found.same_test


@pytest.mark.parametrize("seed", range(50))
def test_every_mixed_matrix_pairs_a_pass_with_a_failure(seed: int) -> None:
    results = mixed(seed)
    found = minimax_pair(results)
    assert found.status == "ok"
    assert found.chosen is not None
    assert found.rejected is not None
    assert results[found.chosen.code][found.chosen.test] == 1
    assert results[found.rejected.code][found.rejected.test] == 0
    assert found.code_scores[found.chosen.code] == max(found.code_scores)
    assert found.code_scores[found.chosen.code] >= found.code_scores[found.rejected.code]
    passed = [t for t, p in zip(found.test_scores, results[found.chosen.code], strict=True) if p]
    assert found.test_scores[found.chosen.test] == min(passed)
    failed = [score for score in found.test_scores if score < len(results)]
    assert found.test_scores[found.rejected.test] == max(failed)


@pytest.mark.parametrize("seed", range(50))
def test_a_test_that_all_pass_leaves_the_rejected_cell_and_one_that_none_passes_the_chosen(
    seed: int,
) -> None:
    results = mixed(seed)
    found = minimax_pair(results)
    assert minimax_pair([[*row, 1] for row in results]).rejected == found.rejected
    assert minimax_pair([[*row, 0] for row in results]).chosen == found.chosen


def test_the_order_of_codes_and_tests_does_not_matter_without_ties() -> None:
    results = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]  # s = 3, 2, 1 and t = 3, 2, 1, 0
    codes, tests = [2, 0, 1], [3, 1, 0, 2]
    found = minimax_pair(results)
    moved = minimax_pair([[results[code][test] for test in tests] for code in codes])
    for cell, moved_cell in ((found.chosen, moved.chosen), (found.rejected, moved.rejected)):
        assert cell is not None
        assert moved_cell is not None
        assert cell == (codes[moved_cell.code], tests[moved_cell.test])


@pytest.mark.parametrize(("entry", "status"), [(0, "no_code_passes"), (1, "all_pass")])
def test_a_uniform_matrix_gives_no_pair_and_says_why(entry: int, status: str) -> None:
    for found in (
        minimax_pair([[entry] * 3] * 2),
        random_pair([[entry] * 3] * 2, rng=random.Random(0)),
    ):
        assert (found.status, found.chosen, found.rejected) == (status, None, None)
        assert found.test_scores == [2 * entry] * 3
        assert not found.same_code
        assert not found.same_test


def test_a_random_pair_draws_every_pass_against_every_failure() -> None:
    results = [[1, 0], [1, 1]]
    rng = random.Random(0)
    found = [random_pair(results, rng=rng) for _ in range(60)]
    assert {choice.chosen for choice in found} == {(0, 0), (1, 0), (1, 1)}
    assert {choice.rejected for choice in found} == {(0, 1)}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "at least one code and one test"),
        ([[]], "at least one code and one test"),
        ([[1, 0], [1]], r"results\[1\] is \[1\], expected 2 entries of 0 or 1"),
        ([[1, 2]], r"results\[0\] is \[1, 2\]"),
    ],
)
def test_what_is_no_matrix_of_results_is_refused(results: Results, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        minimax_pair(results)
    with pytest.raises(RecordError, match=message):
        random_pair(results, rng=random.Random(0))
