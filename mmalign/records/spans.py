"""Phrases that differ between two responses: read from marks, found by a diff, laid on tokens."""

import re
from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from mmalign.errors import RecordError
from mmalign.records.pairs import Span

__all__ = [
    "CLOSE_MARK",
    "OPEN_MARK",
    "PhraseIds",
    "SpanPair",
    "TaggedText",
    "differing_phrases",
    "differing_spans",
    "parse_tagged",
    "phrase_ids_of",
    "write_tagged",
]

OPEN_MARK = "<MASK>"
CLOSE_MARK = "</MASK>"

_MARK = re.compile(f"{re.escape(OPEN_MARK)}|{re.escape(CLOSE_MARK)}")
_NO_SPACES = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: each character counts as a word."""
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W{_NO_SPACES}]+(?:['’\-][^\W{_NO_SPACES}]+)*|[^\w\s]")


class TaggedText(NamedTuple):
    """A text without its marks, and where they stood."""

    text: str
    spans: tuple[Span, ...]


class SpanPair(NamedTuple):
    """The differing phrases of both responses; equal phrase ids stand for each other."""

    chosen: tuple[Span, ...]
    rejected: tuple[Span, ...]


class PhraseIds(NamedTuple):
    """A phrase id for each element of both sequences; 0 where they agree."""

    chosen: list[int]
    rejected: list[int]

    @property
    def num_phrases(self) -> int:
        """Phrases of both sides together; one without elements on a side still counts."""
        return max((*self.chosen, *self.rejected), default=0)


def parse_tagged(text: str, *, drop_spaces: bool = False) -> TaggedText:
    """The text without `<MASK>` marks and the spans that they enclosed, numbered from 1.

    Args:
        text: A response with marks around its differing phrases.
        drop_spaces: Each mark takes one space inside it away too, as in
            `a <MASK> red </MASK> ball` for `a red ball`.

    Raises:
        RecordError: Marks are nested, unbalanced, or enclose nothing; with the place.
    """
    plain: list[str] = []
    spans: list[Span] = []
    length = end = 0
    opened: tuple[int, int] | None = None  # offsets in the plain and in the marked text
    for mark in _MARK.finditer(text):
        piece = text[end : mark.start()]
        closes = mark.group() == CLOSE_MARK
        if drop_spaces and opened is not None:
            piece = piece[1:] if piece.startswith(" ") else piece
            piece = piece[:-1] if closes and piece.endswith(" ") else piece
        plain.append(piece)
        length += len(piece)
        end = mark.end()
        if closes:
            if opened is None:
                raise _bad_mark(text, mark.start(), f"{CLOSE_MARK} closes nothing")
            start, opened_at = opened
            if not piece.strip():
                raise _bad_mark(text, opened_at, "the marks enclose no word")
            left = len(piece) - len(piece.lstrip())
            right = len(piece) - len(piece.rstrip())
            spans.append(Span(start=start + left, end=length - right, phrase_id=len(spans) + 1))
            opened = None
        elif opened is not None:
            raise _bad_mark(text, mark.start(), f"{OPEN_MARK} stands inside another one")
        else:
            opened = (length, mark.start())
    if opened is not None:
        raise _bad_mark(text, opened[1], f"{OPEN_MARK} is never closed")
    plain.append(text[end:])
    return TaggedText("".join(plain), tuple(spans))


def write_tagged(text: str, spans: Sequence[Span], *, add_spaces: bool = False) -> str:
    """The text with `<MASK>` marks around its spans; the inverse of `parse_tagged`.

    Args:
        text: The response.
        spans: Its differing phrases, in any order; phrase ids are not written.
        add_spaces: Put a space inside each mark, as the released RRPO files do.

    Raises:
        RecordError: Spans overlap or lie outside the text, or the text holds a mark already.
    """
    if found := _MARK.search(text):
        raise _bad_mark(text, found.start(), "the plain text holds a mark already")
    pad = " " if add_spaces else ""
    pieces: list[str] = []
    end = 0
    for span in sorted(spans, key=lambda item: item.start):
        if span.start < end:
            raise RecordError(
                f"span {span.start}-{span.end} overlaps the one before it, which ends at {end}; "
                f"marks cannot be nested. Merge the two spans"
            )
        if span.end > len(text):
            raise RecordError(
                f"span {span.start}-{span.end} lies outside the text of {len(text)} characters: "
                f"{text[:60]!r}"
            )
        phrase = f"{OPEN_MARK}{pad}{text[span.start : span.end]}{pad}{CLOSE_MARK}"
        pieces += [text[end : span.start], phrase]
        end = span.end
    return "".join((*pieces, text[end:]))


def differing_spans(chosen: str, rejected: str, *, include_indels: bool = False) -> SpanPair:
    """The phrases in which two responses differ, compared word by word.

    White space is no difference. Punctuation marks are words of their own.

    Args:
        chosen: Text of the response to prefer.
        rejected: Text of the response to avoid.
        include_indels: Also report words that only one side has.
    """
    words = [list(_WORD.finditer(text)) for text in (chosen, rejected)]
    ids = differing_phrases(
        [word.group() for word in words[0]],
        [word.group() for word in words[1]],
        include_indels=include_indels,
    )
    return SpanPair(_spans(words[0], ids.chosen), _spans(words[1], ids.rejected))


def differing_phrases(
    a_ids: Sequence[Hashable], b_ids: Sequence[Hashable], *, include_indels: bool = False
) -> PhraseIds:
    """Phrase ids of the elements in which two sequences differ, numbered from left to right.

    Longest matching blocks, found recursively; what lies between two blocks is a phrase when
    both sides have elements there.

    Args:
        a_ids: The chosen side: token ids, words, anything that compares.
        b_ids: The rejected side.
        include_indels: A gap with elements on one side only is a phrase too.

    Source: RRPO (Sarkar & Etemad, 2025), the matcher of its VideoChat2 code.
    """
    chosen, rejected = [0] * len(a_ids), [0] * len(b_ids)
    phrase_id = 0
    # autojunk would take frequent elements of long sequences for noise
    for kind, a, a_end, b, b_end in SequenceMatcher(
        None, a_ids, b_ids, autojunk=False
    ).get_opcodes():
        if kind == "equal" or (kind != "replace" and not include_indels):
            continue
        phrase_id += 1
        chosen[a:a_end] = [phrase_id] * (a_end - a)
        rejected[b:b_end] = [phrase_id] * (b_end - b)
    return PhraseIds(chosen, rejected)


def phrase_ids_of(offsets: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[int]:
    """The phrase id of each token: of the first span that it shares a character with, or 0.

    Args:
        offsets: Character range of each token in the text of the spans, as a fast tokenizer
            returns them; empty ranges (special tokens) belong to no phrase.
        spans: Spans of the same text.
    """
    ordered = sorted(spans, key=lambda item: item.start)
    return [
        next((s.phrase_id for s in ordered if max(start, s.start) < min(end, s.end)), 0)
        for start, end in offsets
    ]


def _spans(words: Sequence[re.Match[str]], ids: Sequence[int]) -> tuple[Span, ...]:
    phrases: dict[int, tuple[int, int]] = {}
    for word, phrase_id in zip(words, ids, strict=True):
        if phrase_id:
            start, _ = phrases.get(phrase_id, word.span())
            phrases[phrase_id] = (start, word.end())
    return tuple(Span(start=s, end=e, phrase_id=i) for i, (s, e) in phrases.items())


def _bad_mark(text: str, position: int, problem: str) -> RecordError:
    shown = text[max(0, position - 20) : position + 30]
    return RecordError(
        f"marks at character {position}: {problem}: ...{shown}...; every {OPEN_MARK} needs its "
        f"own {CLOSE_MARK} behind it, around at least one word"
    )
