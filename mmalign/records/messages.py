"""Chat messages with typed parts, in OpenAI's roles."""

from collections.abc import Set
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mmalign.records.base import Record
from mmalign.records.media import MediaRef

__all__ = ["MediaPart", "Message", "Part", "TextPart", "ToolCall", "text_of", "user"]


class TextPart(Record):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class MediaPart(Record):
    """A video, sound or picture at its place in the message."""

    type: Literal["media"] = "media"
    media: MediaRef


Part = Annotated[TextPart | MediaPart, Field(discriminator="type")]


class ToolCall(Record):
    """A call that an assistant asks for; the arguments stay the text that was written."""

    not_in_id: ClassVar[Set[str]] = frozenset()

    id: str | None = None
    """The server's name of the call, which the tool's turn repeats as `tool_call_id`."""
    name: str
    arguments: str
    """JSON text, never a parsed object: Arrow would add null keys to it."""


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined without a separator."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def media(self) -> tuple[MediaRef, ...]:
        """The media parts' references, in order."""
        return tuple(part.media for part in self.content if isinstance(part, MediaPart))


def user(text: str, *media: MediaRef) -> Message:
    """A user's turn: the media first, then the text."""
    return Message(
        role="user", content=(*(MediaPart(media=item) for item in media), TextPart(text=text))
    )


def text_of(text: str, role: Literal["system", "user", "assistant"] = "assistant") -> Message:
    """A turn that is only text, by default the assistant's."""
    return Message(role=role, content=(TextPart(text=text),))
