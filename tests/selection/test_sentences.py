"""Sentences are found, and nothing of the text is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmalign.selection.sentences import sentences_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  \n", ()),
        ("...", ()),
        ("3", ("3",)),
        ("A drum", ("A drum",)),
        ("A drum. Two flutes!", ("A drum. ", "Two flutes!")),
        ("a drum plays . it is loud . ", ("a drum plays . ", "it is loud . ")),
        ('He says "now." Then 3.5 s pass.', ('He says "now." ', "Then 3.5 s pass.")),
        ("Really?! Yes...", ("Really?! ", "Yes...")),
        ("1. A drum\n2. A flute", ("1. A drum\n", "2. A flute")),
        ("One line\n\nanother", ("One line\n\n", "another")),
        ("鼓。笛子。", ("鼓。", "笛子。")),
        ("- A drum. ...", ("- A drum. ...",)),
    ],
)
def test_worked_by_hand(text: str, expected: tuple[str, ...]) -> None:
    assert sentences_of(text) == expected


@given(st.text(alphabet="aB3 .!?\n\"'…。)-", max_size=60))
def test_joined_they_are_the_text_and_each_says_something(text: str) -> None:
    sentences = sentences_of(text)
    assert "".join(sentences) == (text if any(c.isalnum() for c in text) else "")
    assert all(any(c.isalnum() for c in sentence) for sentence in sentences)
