"""How answers are read."""

import pytest

from mmalign.errors import ConfigError
from mmalign.evaluation.parsing import (
    check_profile,
    is_yes_no_hit,
    normalise,
    parse_letter,
    parse_yes_no,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", "yes"),
        ("no", "no"),
        ("**Yes**, there is no cat.", "yes"),
        ("I would say no.", "no"),
        ("yes or no", "yes"),
        ("It could be yes or no", None),
        ("The cat sleeps.", None),
        ("Nothing, notes, yesterday", None),
        ("", None),
    ],
)
def test_yes_no_strict(text: str, expected: str | None) -> None:
    assert parse_yes_no(text) == expected


def test_echoed_question_hits_both_words_officially_and_none_strictly() -> None:
    text = "Is it yes or no?"
    assert is_yes_no_hit(text, "yes", "official")
    assert is_yes_no_hit(text, "no", "official")
    assert not is_yes_no_hit(text, "yes", "strict")
    assert not is_yes_no_hit(text, "no", "strict")
    assert not is_yes_no_hit("nobody", "no", "official")


OPTIONS = ("left", "right", "up")


@pytest.mark.parametrize(
    ("text", "strict", "official"),
    [
        ("The answer is (B)", "B", "T"),
        ("(B) right", "B", "B"),
        ("B. right", "B", "B"),
        ("B)", "B", "B"),
        ("B", "B", "B"),
        ("[B]", None, "B"),
        ("I think it is A or so. The answer is: C", "C", "I"),
        ("Answer: A", "A", "A"),
        ("It moves right", "B", "I"),
        ("b", None, "B"),
        ("D. down", None, "D"),
        ("left, then right", None, "L"),
        ("A man walks", None, "A"),
        ("Best option: (C) up", "C", "B"),
        ("", None, None),
        ("42", None, None),
    ],
)
def test_option_letters(text: str, strict: str | None, official: str | None) -> None:
    assert parse_letter(text, OPTIONS) == strict
    assert parse_letter(text, OPTIONS, "official") == official


def test_option_text_must_stand_alone() -> None:
    assert parse_letter("upwards", OPTIONS) is None
    assert parse_letter("UP", OPTIONS) == "C"


def test_texts_are_compared_without_case_and_punctuation() -> None:
    assert normalise('  The "Red"  ball. ') == "the red ball"
    assert normalise("?!") == ""


def test_unknown_profile_is_an_error() -> None:
    assert check_profile("official") == "official"
    with pytest.raises(ConfigError, match="no parse profile 'lenient'; choose strict or official"):
        check_profile("lenient")
