"""Pairs of code and test, chosen so that a wrong test spoils them least."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from mmalign.errors import RecordError

__all__ = ["Cell", "MinimaxChoice", "Ties", "minimax_pair", "random_pair"]

Status = Literal["ok", "no_code_passes", "all_pass"]


class Cell(NamedTuple):
    """A code followed by a test: the response, whose label is whether the one passes the other."""

    code: int
    test: int


class Ties(NamedTuple):
    """How many candidates were equally good where each part was chosen; 1 where none but it was."""

    chosen_code: int
    chosen_test: int
    rejected_test: int
    rejected_code: int


class MinimaxChoice(NamedTuple):
    """The cells of one instruction that become a pair, and the votes behind them."""

    code_scores: list[int]
    """Tests that each code passes."""
    test_scores: list[int]
    """Codes that pass each test."""
    status: Status
    """`ok`, or why there is no pair."""
    chosen: Cell | None = None
    """A code with a test that it passes."""
    rejected: Cell | None = None
    """A code with a test that it fails."""
    ties: Ties | None = None
    """Among which candidates the first was taken; None where the cells were drawn."""

    @property
    def same_code(self) -> bool:
        """Whether both cells hold one code: as code without test the pair contradicts itself."""
        return (
            self.chosen is not None
            and self.rejected is not None
            and self.chosen.code == self.rejected.code
        )

    @property
    def same_test(self) -> bool:
        """Whether both cells hold one test."""
        return (
            self.chosen is not None
            and self.rejected is not None
            and self.chosen.test == self.rejected.test
        )


def minimax_pair(results: Sequence[Sequence[int]]) -> MinimaxChoice:
    """Choose the best code with the hardest test it passes, against the easiest test and a failure.

        chosen code   = the one that passes most tests
        chosen test   = of those it passes, the one that fewest codes pass
        rejected test = of those that some code fails, the one that most codes pass
        rejected code = of those that fail it, the one that passes fewest tests

    Of equal candidates the first is taken, in each of the four.

    Args:
        results: [J][K], entry [j][k] is 1 where code j passes test k, else 0; a run that the
            machine spoilt is no 0: drop its row or column.

    Returns:
        The pair; `no_code_passes` or, looked at after it, `all_pass` where there is none.

    Raises:
        RecordError: The matrix is empty, ragged, or holds other entries.

    Source: DSTC (Liu et al., 2024); the rejected code's rule and the ties are a reconstruction.
    """
    _require_results(results)
    codes, tests = range(len(results)), range(len(results[0]))
    code_scores = [sum(row) for row in results]
    test_scores = [sum(column) for column in zip(*results, strict=True)]
    if (status := _status(results)) != "ok":
        return MinimaxChoice(code_scores, test_scores, status)
    best_codes = _best(codes, code_scores, max)
    chosen_code = best_codes[0]
    passed = [test for test in tests if results[chosen_code][test]]
    hardest_tests = _best(passed, test_scores, min)
    failed_by_some = [test for test in tests if test_scores[test] < len(codes)]
    easiest_tests = _best(failed_by_some, test_scores, max)
    rejected_test = easiest_tests[0]
    failing = [code for code in codes if not results[code][rejected_test]]
    worst_codes = _best(failing, code_scores, min)
    found = (best_codes, hardest_tests, easiest_tests, worst_codes)
    return MinimaxChoice(
        code_scores,
        test_scores,
        "ok",
        chosen=Cell(chosen_code, hardest_tests[0]),
        rejected=Cell(worst_codes[0], rejected_test),
        ties=Ties(*map(len, found)),
    )


def random_pair(results: Sequence[Sequence[int]], *, rng: random.Random) -> MinimaxChoice:
    """A pass against a failure, each drawn evenly: what `minimax_pair` is measured against.

    Args:
        results: [J][K], as for `minimax_pair`.
        rng: Draws the two cells.

    Raises:
        RecordError: The matrix is empty, ragged, or holds other entries.

    Source: DSTC (Liu et al., 2024), the ablation without minimax.
    """
    _require_results(results)
    cells = [Cell(code, test) for code, row in enumerate(results) for test in range(len(row))]
    code_scores = [sum(row) for row in results]
    test_scores = [sum(column) for column in zip(*results, strict=True)]
    if (status := _status(results)) != "ok":
        return MinimaxChoice(code_scores, test_scores, status)
    return MinimaxChoice(
        code_scores,
        test_scores,
        "ok",
        chosen=rng.choice([cell for cell in cells if results[cell.code][cell.test]]),
        rejected=rng.choice([cell for cell in cells if not results[cell.code][cell.test]]),
    )


def _best(
    candidates: Sequence[int], scores: Sequence[int], best: Callable[[Iterable[int]], int]
) -> list[int]:
    """The candidates with the largest or smallest score, in their order."""
    wanted = best(scores[candidate] for candidate in candidates)
    return [candidate for candidate in candidates if scores[candidate] == wanted]


def _status(results: Sequence[Sequence[int]]) -> Status:
    if not any(map(any, results)):
        return "no_code_passes"
    return "all_pass" if all(map(all, results)) else "ok"


def _require_results(results: Sequence[Sequence[int]]) -> None:
    if not results or not results[0]:
        raise RecordError(f"results is {list(results)}, expected at least one code and one test")
    for code, row in enumerate(results):
        if len(row) != len(results[0]) or any(entry not in (0, 1) for entry in row):
            raise RecordError(
                f"results[{code}] is {list(row)}, expected {len(results[0])} entries of 0 or 1"
            )
