"""Asking a model for an answer of a given form, a bounded number of times."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from mmalign.models.protocol import ChatModel, Sampling
from mmalign.records import Message, text_of, user

__all__ = ["Reply", "ask_until_valid"]

T = TypeVar("T")


class Reply(NamedTuple, Generic[T]):
    """What a model answered in the end."""

    value: T | None
    """None where no reply had the form that was asked for."""
    problems: tuple[str, ...]
    """What was wrong with each invalid reply, in order."""


async def ask_until_valid(
    model: ChatModel,
    messages: Sequence[Message],
    read: Callable[[str], T],
    *,
    draw_seed: Callable[[str], int],
    draw: str,
    num_attempts: int,
    sampling: Sampling,
    response_schema: Mapping[str, Any] | None = None,
) -> Reply[T]:
    """Ask, and ask again with the complaint, until the reply can be read.

    Args:
        model: Who is asked.
        messages: The chat so far.
        read: Takes a reply's text and raises `ValueError` where it does not have the form.
        draw_seed: Gives the seed of a named draw: `Context.draw_seed`.
        draw: Name of the draw; each attempt adds its number.
        num_attempts: At most so many replies are paid.
        sampling: How each reply is drawn.
        response_schema: Handed on to a model that can enforce one.
    """
    schema = response_schema if "schema" in model.capabilities else None
    problems: list[str] = []
    for attempt in range(1, num_attempts + 1):
        (completion,) = await model.generate(
            messages,
            sampling=sampling,
            response_schema=schema,
            seed=draw_seed(f"{draw}/{attempt}"),
        )
        try:
            return Reply(read(completion.text), tuple(problems))
        except ValueError as problem:
            problems.append(str(problem))
            complaint = f"This reply cannot be used: {problem}. Reply again in the form asked for."
            messages = [*messages, text_of(completion.text or "(no text)"), user(complaint)]
    return Reply(None, tuple(problems))
