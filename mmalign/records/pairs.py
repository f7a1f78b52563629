"""Preference pairs whose sides may differ in text, in media, in tools, or in all."""

from typing import Any, Self

from pydantic import Field, FiniteFloat, model_validator

from mmalign.records.base import JsonDict, Record
from mmalign.records.lineage import Lineage
from mmalign.records.media import MediaRef
from mmalign.records.messages import Message

__all__ = ["PreferencePair", "Response", "Span"]


class Span(Record):
    """A phrase of a response that differs from the other side."""

    start: int = Field(ge=0)
    """Offset of the first character."""
    end: int
    """Offset behind the last character."""
    phrase_id: int = Field(ge=1)
    """Joins the phrases of both sides that stand for each other."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"span {self.start}-{self.end} is empty; end must lie behind start")
        return self


class Response(Record):
    """One side of a pair."""

    messages: tuple[Message, ...] = Field(min_length=1)
    """Assistant turns, with tool turns between them where tools were called."""
    media: tuple[MediaRef, ...] | None = None
    """Replaces the prompt's media one for one on this side; None leaves the prompt's."""
    tools: tuple[str, ...] | None = None
    """JSON schemas of the tools on this side; None leaves the pair's."""
    spans: tuple[Span, ...] = ()
    """Offsets into `text`."""
    observed: tuple[tuple[int, int], ...] = ()
    """Characters of `text`, from and to, that a tool or the loop around it wrote, as in formats
    whose calls are tags: they carry no loss."""
    score: FiniteFloat | None = None

    @property
    def text(self) -> str:
        """Text of the last assistant turn; spans are offsets into it."""
        return self.messages[-1].text

    def id_content(self) -> dict[str, Any]:
        """As of any record; what most responses do not have leaves their ids as they were."""
        content = super().id_content()
        return content if self.observed else {k: v for k, v in content.items() if k != "observed"}

    @model_validator(mode="after")
    def _spans_lie_in_the_text(self) -> Self:
        if self.messages[-1].role != "assistant":
            raise ValueError(
                f"a response ends with an assistant turn, not with {self.messages[-1].role}"
            )
        for span in self.spans:
            if span.end > len(self.text):
                raise ValueError(
                    f"span {span.start}-{span.end} lies outside the response, which has "
                    f"{len(self.text)} characters: {self.text[:60]!r}"
                )
        for start, end in self.observed:
            if not 0 <= start < end <= len(self.text):
                raise ValueError(
                    f"observed {start}-{end} is no range of the response's text, which has "
                    f"{len(self.text)} characters: {self.text[:60]!r}"
                )
        return self


class PreferencePair(Record):
    """One prompt, a response to prefer and one to avoid."""

    id: str = ""
    """Hash of the content; filled in when left empty."""
    sample_id: str = Field(min_length=1)
    prompt: tuple[Message, ...] = Field(min_length=1)
    chosen: Response
    rejected: Response
    tools: tuple[str, ...] = ()
    """JSON schemas, as text."""
    metadata: JsonDict = {}
    lineage: Lineage = Lineage()

    @property
    def media(self) -> tuple[MediaRef, ...]:
        """The media that both sides share unless they replace them."""
        return tuple(media for message in self.prompt for media in message.media)

    @model_validator(mode="after")
    def _sides_differ(self) -> Self:
        named = f"pair of sample {self.sample_id!r}"
        if not self.chosen.text.strip() and not self.chosen.messages[-1].tool_calls:
            raise ValueError(f"{named}: the chosen response is empty; drop the sample")
        if not self.rejected.text.strip() and not self.rejected.messages[-1].tool_calls:
            raise ValueError(f"{named}: the rejected response is empty; drop the sample")
        for name, side in (("chosen", self.chosen), ("rejected", self.rejected)):
            if side.media is not None and len(side.media) != len(self.media):
                raise ValueError(
                    f"{named}: the {name} side replaces {len(side.media)} media, the prompt has "
                    f"{len(self.media)}; replace all of them, in order"
                )
        if (
            _turns(self.chosen) == _turns(self.rejected)
            and (self.chosen.media or self.media) == (self.rejected.media or self.media)
            and self.chosen.tools == self.rejected.tools
        ):
            raise ValueError(
                f"{named}: chosen and rejected are the same ({self.chosen.text[:60]!r}); a pair "
                f"needs two different responses. Drop the sample"
            )
        if not self.id:
            object.__setattr__(self, "id", self.content_id())
        return self


def _turns(side: Response) -> list[tuple[object, ...]]:
    """What a side says and calls: two answers that differ in white space only are the same."""
    return [
        (turn.role, turn.text.strip(), turn.media, [(c.name, c.arguments) for c in turn.tool_calls])
        for turn in side.messages
    ]
