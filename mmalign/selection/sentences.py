"""A text cut into its sentences."""

import re

__all__ = ["sentences_of"]

_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?:\s+|\Z)|[。！？]+\s*|\s*\n\s*")
_LIST_NUMBER = re.compile(r"\s*\d{1,2}[.)]\s+")
_WORD = re.compile(r"\w")


def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a text; joined they are the text, white space and all.

    A sentence ends with `.`, `!`, `?` or `…` before white space, or with its line; the mark may
    stand apart, as in tokenised text. The number of a list item belongs to its sentence. An
    abbreviation counts as an end.

    Returns:
        None for a text without a letter or digit.
    """
    sentences: list[str] = []
    start = 0
    for match in _END.finditer(text):
        piece = text[start : match.end()]
        if _WORD.search(piece) and not _LIST_NUMBER.fullmatch(piece):
            sentences.append(piece)
            start = match.end()
    rest = text[start:]
    if _WORD.search(rest):
        sentences.append(rest)
    elif sentences:
        sentences[-1] += rest
    return tuple(sentences)
