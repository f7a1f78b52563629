"""pass@k against its definition, and scores of verdicts worked by hand."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmalign.errors import FailedRatioError, MissingPredictionsError, RecordError
from mmalign.evaluation import (
    Prediction,
    Scores,
    Verdict,
    functional_correctness,
    intervals,
    pass_at_k,
)
from mmalign.evaluation.pass_at_k import empty_share_warning
from mmalign.records import Sample, user


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (10, 3, 1, 0.3),
        (10, 3, 5, 0.9166666666666666),
        (10, 3, 10, 1.0),
        (10, 0, 1, 0.0),
        (20, 1, 10, 0.5),
        (200, 10, 100, 0.9992289739372822),
    ],
)
def test_known_values(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(expected, rel=1e-12)


@given(n=st.integers(1, 9), data=st.data())
def test_is_the_share_of_draws_that_hold_a_program_that_passes(n: int, data: Any) -> None:
    """Over all C(n, k) choices of k among n programs of which the first c pass."""
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(combinations(range(n), k))
    share = sum(min(draw) < c for draw in draws) / len(draws)
    assert pass_at_k(n, c, k) == pytest.approx(share, rel=1e-12, abs=1e-12)


@given(n=st.integers(1, 200), data=st.data())
def test_grows_with_c_and_k_between_its_limits(n: int, data: Any) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    value = pass_at_k(n, c, k)
    assert pass_at_k(n, c, 1) == pytest.approx(c / n, abs=1e-12)
    assert pass_at_k(n, c, n) == (1.0 if c else 0.0)
    assert value <= pass_at_k(n, min(c + 1, n), k) + 1e-12
    assert value <= pass_at_k(n, c, min(k + 1, n)) + 1e-12


@pytest.mark.parametrize(
    ("n", "c", "k", "message"),
    [
        (5, 1, 6, "pass@6 of 5 programs: k must be at least 1 and at most n"),
        (5, 1, 0, "pass@0 of 5 programs"),
        (5, 6, 1, "6 of 5 programs passed"),
        (5, -1, 1, "-1 of 5 programs passed"),
    ],
)
def test_impossible_counts_are_errors(n: int, c: int, k: int, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        pass_at_k(n, c, k)


# Verdicts -----------------------------------------------------------------------------------


def problem(name: str, **metadata: Any) -> Sample:
    known = {"entry_point": "f", "subset": "test"}
    return Sample(id=name, messages=(user("?"),), tests=("assert f()",), metadata=known | metadata)


def verdicts(name: str, statuses: str, **fields: Any) -> list[Verdict]:
    """p passes, f fails, t takes too long, i is the machine's fault."""
    names = {"p": "pass", "f": "fail", "t": "timeout", "i": "infra_error"}
    return [
        Verdict(id=name, draw=draw, prediction="", answer="", status=names[key], **fields)
        for draw, key in enumerate(statuses)
    ]


def scored(statuses: dict[str, str], k: Sequence[int] = (1,), **settings: Any) -> Scores:
    given = [line for name, keys in statuses.items() for line in verdicts(name, keys)]
    return functional_correctness([problem(name) for name in "abc"], given, k=k, **settings)


def test_scores_by_hand() -> None:
    """Of four programs 2, 0, 1 pass: pass@1 is (1/2 + 0 + 1/4) / 3; for pass@2 the chances that
    both of two fail are 1/6, 1 and 1/2."""
    scores = scored({"a": "ppft", "b": "fftf", "c": "fpff"}, k=(2, 1))
    assert scores.main == "pass@2"
    assert scores.metrics["pass@1"] == pytest.approx(25.0)
    assert scores.metrics["pass@2"] == pytest.approx(100 * (5 / 6 + 0 + 1 / 2) / 3)
    assert scores.subsets == {"test": scores.metrics}
    assert scores.counts == {
        "items": 3,
        "units": 3,
        "items/test": 3,
        "programs": 12,
        "in_process": 0,
        "status/pass": 3,
        "status/fail": 7,
        "status/timeout": 2,
    }


def test_interval_comes_from_draws_of_problems() -> None:
    low, high = intervals(scored({"a": "p", "b": "p", "c": "f"}).table)["pass@1"]
    assert (low, high) == (0.0, 100.0)
    same = intervals(scored({"a": "pf", "b": "pf", "c": "fp"}).table)["pass@1"]
    assert same == pytest.approx((50.0, 50.0))


def test_missing_programs_are_an_error_or_count_as_failed() -> None:
    with pytest.raises(MissingPredictionsError, match="2 of 3 samples have no prediction: b, c"):
        scored({"a": "pp", "b": "p"})
    scores = scored({"a": "pp", "b": "p"}, allow_missing=True)
    assert scores.metrics["pass@1"] == pytest.approx(100 * (1 + 1 / 2 + 0) / 3)
    assert scores.missing == ("c",)


def test_too_few_programs_for_k_are_an_error() -> None:
    with pytest.raises(RecordError, match="pass@3 needs 3 programs per problem, found 2"):
        scored({"a": "pp", "b": "pf", "c": "ff"}, k=(1, 3))


def test_faults_of_the_machine_count_neither_way_while_they_are_few() -> None:
    """One of 120 programs: its problem has 39 left, of which all pass."""
    scores = scored({"a": "i" + "p" * 39, "b": "p" * 40, "c": "f" * 40}, k=(1,))
    assert scores.metrics["pass@1"] == pytest.approx(100 * 2 / 3)
    assert scores.counts["status/infra_error"] == 1
    left_out = scored({"a": "i" + "p" * 39, "b": "p" * 40, "c": "f" * 40}, k=(40,))
    assert left_out.metrics["pass@40"] == 50.0
    assert (left_out.counts["items"], left_out.counts["left_out"]) == (2, 1)


def test_many_faults_of_the_machine_make_the_score_invalid() -> None:
    with pytest.raises(
        FailedRatioError, match=r"2 of 6 runs ended by the machine's fault.*among them a, b\."
    ):
        scored({"a": "ip", "b": "fi", "c": "pp"})


def test_a_prediction_that_was_not_run_is_an_error() -> None:
    with pytest.raises(RecordError, match='sample "a": a prediction is no verdict'):
        functional_correctness([problem("a")], [Prediction(id="a", prediction="def f(): ...")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tests": None}, 'sample "a": tests: String should have at least 1 character'),
        ({"metadata": {}}, 'sample "a": entry_point: Field required'),
        ({"metadata": {"entry_point": "f", "mode": "fast"}}, "mode: Input should be 'check'"),
    ],
)
def test_bad_problems_are_named(changes: dict[str, Any], message: str) -> None:
    bad = problem("a").model_copy(update=changes)
    with pytest.raises(RecordError, match=message):
        functional_correctness([bad], [], allow_missing=True)


def test_many_answers_without_code_are_told() -> None:
    items = [problem(name) for name in "ab"]
    full = verdicts("a", "p" * 9) + verdicts("b", "f" * 9)
    empty = [
        Verdict(id=n, draw=9, prediction="", answer="", status="fail", empty=True) for n in "ab"
    ]
    few = functional_correctness(items, full + empty)
    assert few.unparsed == 2
    assert empty_share_warning(few) is None
    many = functional_correctness(items[:1], verdicts("a", "ffp", empty=True))
    warning = empty_share_warning(many)
    assert warning is not None
    assert warning.startswith("3 of 3 answers hold no code and count as failed")
