"""Scores of short answers, by the vectors of the published evaluations."""

import pytest

from mmalign.errors import RecordError
from mmalign.rewards.question_answering import (
    answer_f1,
    exact_match,
    last_answer,
    normalise_answer,
    sub_exact_match,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Beatles!", "beatles"),
        ("U.S.A.", "usa"),
        ("rock-n-roll", "rocknroll"),
        ("1,234.5", "12345"),
        ("a an the", ""),
        ("Zoë’s “cafe”", "zoë’s “cafe”"),  # curly quotes are kept
        ("theatre", "theatre"),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalise_answer(text) == expected


def test_exact_match_wants_one_of_the_golds() -> None:
    assert exact_match("The Beatles", ["Stones", "beatles"])
    assert not exact_match("Beatles band", ["beatles"])
    assert sub_exact_match("the Beatles band", ["beatles"])
    assert not sub_exact_match("Stones", ["beatles"])


def test_f1_by_hand() -> None:
    """Words cat sat on mat and cat sat share two: 2 (1/2)(1) / (1/2 + 1)."""
    assert answer_f1("the cat sat on mat", ["A cat sat"]) == pytest.approx(2 / 3)
    assert answer_f1("yes it is", ["yes"]) == 0.0
    assert answer_f1("yes", ["yes"]) == 1.0
    assert answer_f1("dog", ["cat", "dog house"]) == pytest.approx(2 / 3)
    assert answer_f1("", ["cat"]) == 0.0


@pytest.mark.parametrize(
    ("golds", "message"), [([], "no gold answer"), (["The"], "'The' is empty")]
)
def test_golds_that_say_nothing_are_refused(golds: list[str], message: str) -> None:
    for score in (exact_match, sub_exact_match, answer_f1):
        with pytest.raises(RecordError, match=message):
            score("x", golds)


def test_the_last_answer_counts() -> None:
    assert last_answer("<answer>a</answer> no <answer>\n b </answer>") == "b"
    assert last_answer("<answer>a") is None
