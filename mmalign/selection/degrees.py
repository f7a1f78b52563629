"""Graded versions of a response: which key phrases are removed at which degree.

Left out: finding the phrases (RAKE or a model); they come with their scores.
"""

import math
import re
from collections.abc import Sequence

from mmalign.errors import RecordError

__all__ = ["remove_spans", "removed_phrases"]


def removed_phrases(phrase_scores: Sequence[float], *, num_degrees: int) -> list[list[int]]:
    """Which key phrases of a response each degree removes; a reconstruction.

        degree k removes the floor(k * P / num_degrees) highest-scored of P phrases

    Args:
        phrase_scores: One for each key phrase, in the order of the text; of equal ones the
            earlier phrase is removed first.
        num_degrees: K, >= 1, and no more than there are phrases.

    Returns:
        K + 1 lists of places in `phrase_scores`, ascending; degree 0 removes none, degree K all,
        and each holds the one before.

    Raises:
        RecordError: A score is NaN, or there are fewer phrases than degrees.

    Source: SPO, degrees (Li et al., 2024).
    """
    num_phrases = len(phrase_scores)
    if not 1 <= num_degrees <= num_phrases:
        raise RecordError(
            f"{num_degrees} degrees for {num_phrases} key phrases, expected 1 or more and at least "
            f"as many phrases; skip the response or lower num_degrees"
        )
    if any(math.isnan(score) for score in phrase_scores):
        raise RecordError(f"a phrase has no score: {list(phrase_scores)}")
    best_first = sorted(range(num_phrases), key=lambda place: -phrase_scores[place])
    return [
        sorted(best_first[: degree * num_phrases // num_degrees])
        for degree in range(num_degrees + 1)
    ]


def remove_spans(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text without these parts, its runs of spaces made one.

    Args:
        text: A response.
        spans: Start and end of each part, in characters, in the order of the text.

    Raises:
        RecordError: Spans overlap, are empty or leave the text, or nothing is left of it.
    """
    kept, last = [], 0
    for start, end in spans:
        if not last <= start < end <= len(text):
            raise RecordError(
                f"span {start}-{end} does not follow {last} inside a text of {len(text)} characters"
            )
        kept.append(text[last:start])
        last = end
    left = re.sub(r" {2,}", " ", "".join([*kept, text[last:]])).strip(" ")
    if not left:
        raise RecordError(f"nothing is left of {text!r}; drop this degree")
    return left
