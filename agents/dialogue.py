"""Asking a model for an answer of a given form, a bounded number of times; prompts from files."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Generic, NamedTuple, TypeVar

from mmalign.api import ChatModel, Context, Message, Sampling, text_of, user

__all__ = ["Reply", "ask_until_valid", "load_prompts", "prompt"]

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
    context: Context,
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
        context: Where the seeds come from.
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
            seed=context.draw_seed(f"{draw}/{attempt}"),
        )
        try:
            return Reply(read(completion.text), tuple(problems))
        except ValueError as problem:
            problems.append(str(problem))
            complaint = f"This reply cannot be used: {problem}. Reply again in the form asked for."
            messages = [*messages, text_of(completion.text or "(no text)"), user(complaint)]
    return Reply(None, tuple(problems))


def prompt(name: str, **values: str) -> str:
    """The text of `agents/<name>.md` with its `$names` filled in."""
    return _template(name).substitute(values)


def load_prompts(*names: str) -> None:
    """Read the files now, since nodes run in an event loop, which no file may hold up."""
    for name in names:
        _template(name)


@cache
def _template(name: str) -> Template:
    return Template(Path(__file__).with_name(f"{name}.md").read_text(encoding="utf-8").strip())
