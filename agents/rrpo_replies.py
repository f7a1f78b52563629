"""What judge and rewriter reply, read strictly: a `ValueError` says what is wrong with a reply."""

import re
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from mmalign.agents.answers import normalise
from mmalign.api import Span, parse_tagged

__all__ = [
    "NO_DIFFERENCES",
    "Rewritten",
    "Verdict",
    "read_differences",
    "read_rewritten",
    "read_tagged",
    "read_verdict",
]

NO_DIFFERENCES = "NO_DIFFERENCES"
"""What the rewriter says where the answers do not contradict each other."""


class Verdict(BaseModel):
    """What the judge replies."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["correct", "incorrect"]
    reason: str


class Rewritten(NamedTuple):
    """A wrong answer in the gold answer's wording."""

    text: str
    gold_spans: tuple[Span, ...] = ()
    """The phrases that were marked, on both sides; none where a diff must find them."""
    spans: tuple[Span, ...] = ()


def read_verdict(text: str) -> Verdict:
    """The one JSON object of a reply, whatever stands around it."""
    try:
        return Verdict.model_validate_json(text[text.find("{") : text.rfind("}") + 1])
    except ValidationError as error:
        raise ValueError(
            f"expected one JSON object with a verdict, correct or incorrect, and a reason; found "
            f"{text[:80]!r}"
        ) from error


def read_differences(text: str) -> str:
    """The list of differences, or what stands for none."""
    if not text.strip():
        raise ValueError("it is empty")
    return text.strip()


def read_rewritten(text: str, gold: str) -> str:
    """A rewritten answer: one paragraph that says something else than the gold one."""
    found = text.strip().strip('"“”').strip()
    if not found or "\n" in found:
        raise ValueError("expected the rewritten answer alone, in one paragraph")
    if normalise(found) == normalise(gold):
        raise ValueError("it says the same as the right answer")
    return found


def read_tagged(text: str, gold: str) -> Rewritten:
    """A rewritten answer whose phrases are marked on both sides, joined in their order."""
    lines = re.fullmatch(r"\s*RIGHT:\s*(.+?)\s*\n\s*WRONG:\s*(.+?)\s*", text)
    if lines is None:
        raise ValueError("expected two lines, RIGHT: and WRONG:")
    right, wrong = (parse_tagged(line) for line in lines.groups())
    if right.text != gold:
        raise ValueError("the line RIGHT: is not the right answer with marks")
    if len(right.spans) != len(wrong.spans) or not right.spans:
        raise ValueError(f"RIGHT: has {len(right.spans)} marks, WRONG: has {len(wrong.spans)}")
    if read_rewritten(wrong.text, gold) != wrong.text:
        raise ValueError("the line WRONG: has quotation marks around it")
    return Rewritten(wrong.text, right.spans, wrong.spans)
