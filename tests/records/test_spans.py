"""Marks are parsed with places, differing phrases found as the golden numbers say."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmalign.errors import RecordError
from mmalign.records import Span
from mmalign.records.spans import (
    differing_phrases,
    differing_spans,
    parse_tagged,
    phrase_ids_of,
    write_tagged,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rrpo.json").read_text())


@pytest.mark.parametrize("include_indels", [False, True])
@pytest.mark.parametrize("golden", GOLDEN)
def test_phrases_match_golden(golden: dict[str, Any], include_indels: bool) -> None:
    case, expected = golden["case"], golden["expected"]
    prefix = "diff_with_indels" if include_indels else "diff"
    rows = [
        differing_phrases(chosen, rejected, include_indels=include_indels)
        for chosen, rejected in zip(case["chosen_text_ids"], case["rejected_text_ids"], strict=True)
    ]
    assert [row.chosen for row in rows] == expected[f"{prefix}_chosen_phrase_ids"]
    assert [row.rejected for row in rows] == expected[f"{prefix}_rejected_phrase_ids"]
    assert [row.num_phrases for row in rows] == expected[f"{prefix}_num_phrases"]


@given(st.lists(st.integers(0, 3), max_size=300))
def test_identical_sequences_have_no_phrase(ids: list[int]) -> None:
    assert differing_phrases(ids, ids).num_phrases == 0


def test_substitution_is_one_phrase_and_deletion_none_without_indels() -> None:
    assert differing_phrases([1, 2, 3], [1, 9, 3]) == ([0, 1, 0], [0, 1, 0])
    assert differing_phrases([1, 2, 3], [1, 3]) == ([0, 0, 0], [0, 0])
    assert differing_phrases([1, 2, 3], [1, 3], include_indels=True) == ([0, 1, 0], [0, 0])


def test_frequent_elements_still_match_in_long_sequences() -> None:
    """With the popularity heuristic of difflib the repeated 0 would match nothing."""
    chosen = [0] * 150 + [1] + [0] * 150
    rejected = [0] * 150 + [2] + [0] * 150
    assert differing_phrases(chosen, rejected) == ([0] * 150 + [1] + [0] * 150,) * 2


def test_words_differ_and_white_space_does_not() -> None:
    chosen, rejected = "The red ball  moves left.", "The dark blue cube\nmoves right!"
    spans = differing_spans(chosen, rejected)
    assert [chosen[s.start : s.end] for s in spans.chosen] == ["red ball", "left."]
    assert [rejected[s.start : s.end] for s in spans.rejected] == ["dark blue cube", "right!"]
    assert [s.phrase_id for s in spans.chosen] == [s.phrase_id for s in spans.rejected] == [1, 2]
    assert differing_spans("a  b", "a\nb") == ((), ())


def test_words_that_one_side_lacks_count_on_demand() -> None:
    spans = differing_spans("a red ball", "a ball", include_indels=True)
    assert spans.chosen == (Span(start=2, end=5, phrase_id=1),)
    assert spans.rejected == ()


def test_scripts_without_spaces_are_compared_character_by_character() -> None:
    spans = differing_spans("红色的球", "蓝色的球")
    assert spans.chosen == spans.rejected == (Span(start=0, end=1, phrase_id=1),)


@given(st.text("ab c", max_size=30), st.text("ab c", max_size=30))
def test_texts_agree_outside_their_spans(chosen: str, rejected: str) -> None:
    spans = differing_spans(chosen, rejected, include_indels=True)

    def shared(text: str, parts: tuple[Span, ...]) -> str:
        for part in reversed(parts):
            text = text[: part.start] + " " + text[part.end :]
        return "".join(text.split())

    assert shared(chosen, spans.chosen) == shared(rejected, spans.rejected)


SPANS = (Span(start=2, end=5, phrase_id=1), Span(start=6, end=10, phrase_id=2))


def test_marks_are_read_and_written_both_ways() -> None:
    tight, spaced = (
        "a <MASK>red</MASK> <MASK>ball</MASK>",
        "a <MASK> red </MASK> <MASK> ball </MASK>",
    )
    assert parse_tagged(tight) == ("a red ball", SPANS)
    assert parse_tagged(spaced, drop_spaces=True) == ("a red ball", SPANS)
    assert write_tagged("a red ball", SPANS) == tight
    assert write_tagged("a red ball", SPANS, add_spaces=True) == spaced


@given(st.text("xy z", min_size=1, max_size=20), st.data(), st.booleans())
def test_parsing_inverts_writing(text: str, data: st.DataObject, spaces: bool) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    ranges = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    phrases = [(a, b) for a, b in ranges if text[a:b].strip() == text[a:b]]
    spans = tuple(Span(start=a, end=b, phrase_id=i) for i, (a, b) in enumerate(phrases, start=1))
    marked = write_tagged(text, spans, add_spaces=spaces)
    assert parse_tagged(marked, drop_spaces=spaces) == (text, spans)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a <MASK>red ball", r"character 2: <MASK> is never closed"),
        ("a red</MASK> ball", r"character 5: </MASK> closes nothing"),
        ("a <MASK>re<MASK>d</MASK>", r"character 10: <MASK> stands inside another one"),
        ("a <MASK> </MASK> ball", r"character 2: the marks enclose no word"),
    ],
)
def test_bad_marks_are_named_with_their_place(text: str, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        parse_tagged(text)


def test_spans_that_cannot_be_marked_are_refused() -> None:
    with pytest.raises(RecordError, match="span 3-6 overlaps the one before it, which ends at 5"):
        write_tagged("a red ball", [SPANS[0], Span(start=3, end=6, phrase_id=2)])
    with pytest.raises(RecordError, match="span 6-10 lies outside the text of 5 characters"):
        write_tagged("a red", SPANS)
    with pytest.raises(RecordError, match="holds a mark already"):
        write_tagged("a <MASK>red", ())


def test_token_belongs_to_a_phrase_by_one_character() -> None:
    """Tokens: `a`, ` r`, `ed b`, `all`, and an end-of-turn token without characters."""
    offsets = [(0, 1), (1, 3), (3, 7), (7, 10), (10, 10)]
    assert phrase_ids_of(offsets, SPANS) == [0, 1, 1, 2, 0]
    assert phrase_ids_of(offsets, ()) == [0, 0, 0, 0, 0]
