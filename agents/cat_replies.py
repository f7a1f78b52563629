"""What CAT's agent reads: a rewritten answer, and whether a question is about sound."""

import math
import re
from typing import NamedTuple

from mmalign.api import Sample

__all__ = ["WordBounds", "is_about_sound", "read_rewritten", "word_bounds"]

_SOUND = re.compile(r"audio|sound", re.IGNORECASE)


class WordBounds(NamedTuple):
    """How long a rewritten answer may be."""

    fewest: int
    most: int


def word_bounds(text: str, *, min_ratio: float, max_ratio: float) -> WordBounds:
    """Words that a text like the given one may have; at least one."""
    num_words = len(text.split())
    fewest = max(1, math.ceil(min_ratio * num_words))
    return WordBounds(fewest, max(fewest, math.floor(max_ratio * num_words)))


def read_rewritten(text: str, rejected: str, bounds: WordBounds) -> str:
    """A rewritten answer: text alone, another one than before, of about its length.

    Raises:
        ValueError: It is empty, the same, too short or too long.
    """
    found = text.strip().strip('"“”').strip()
    if not found:
        raise ValueError("expected the new answer, found no text")
    if found == rejected.strip():
        raise ValueError("it is the answer that was to be written again")
    num_words = len(found.split())
    if not bounds.fewest <= num_words <= bounds.most:
        raise ValueError(
            f"expected {bounds.fewest} to {bounds.most} words, found {num_words}: {found[:80]!r}"
        )
    return found


def is_about_sound(sample: Sample) -> bool:
    """Whether the question needs the sound: by `metadata["about_sound"]`, or its type's words."""
    stated = sample.metadata.get("about_sound")
    if isinstance(stated, bool):
        return stated
    kinds = (sample.metadata.get("modality"), sample.metadata.get("question_type"))
    return any(_SOUND.search(str(kind)) for kind in kinds if kind)
