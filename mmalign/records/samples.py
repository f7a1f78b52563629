"""What a data set's reader yields."""

from typing import Self

from pydantic import Field, model_validator

from mmalign.records.base import JsonDict, Record
from mmalign.records.media import MediaRef
from mmalign.records.messages import Message

__all__ = ["Sample"]


class Sample(Record):
    """One question about some media, with what is known about its answer."""

    id: str = Field(min_length=1)
    messages: tuple[Message, ...] = Field(min_length=1)
    """The prompt; ends with a user or tool turn."""
    answer: str | None = None
    """Gold answer in the form that the model should give."""
    choices: tuple[str, ...] | None = None
    answer_index: int | None = None
    """Place of the right one among `choices`, from 0."""
    group_id: str | None = None
    """Questions that are scored together (a basic question and its hallucinated twin)."""
    boxes: tuple[tuple[float, float, float, float], ...] | None = None
    tests: tuple[str, ...] | None = None
    metadata: JsonDict = {}
    """What the reader knows besides: `dataset`, `subset`, `question_type` ..."""

    @property
    def media(self) -> tuple[MediaRef, ...]:
        """All media of the prompt, in order."""
        return tuple(media for message in self.messages for media in message.media)

    @property
    def question(self) -> str:
        """Text of the last user turn."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return ""

    @model_validator(mode="after")
    def _is_a_prompt(self) -> Self:
        if self.messages[-1].role not in ("user", "tool"):
            raise ValueError(
                f"sample {self.id!r}: the prompt ends with a turn of the "
                f"{self.messages[-1].role}; it must end with a user or tool turn"
            )
        if self.answer_index is not None and not (
            self.choices and 0 <= self.answer_index < len(self.choices)
        ):
            raise ValueError(
                f"sample {self.id!r}: answer_index {self.answer_index} is not one of "
                f"{len(self.choices or ())} choices"
            )
        return self
