"""Log-probabilities of a given answer, from servers that list those of their prompt."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmalign.errors import ModelResponseError
from mmalign.models.protocol import TokenLogprobs
from mmalign.records import Message

__all__ = ["ScoreRoute", "read_echo", "read_prompt_logprobs", "render_chat"]

ScoreRoute = Literal["echo", "prompt_logprobs"]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _EchoLogprobs(_Wire):
    tokens: list[str]
    token_logprobs: list[float | None]
    text_offset: list[int]


class _EchoChoice(_Wire):
    text: str
    logprobs: _EchoLogprobs


class _Echo(_Wire):
    choices: list[_EchoChoice] = Field(min_length=1)


class _Listed(_Wire):
    logprob: float
    decoded_token: str | None = None


class _Prompt(_Wire):
    prompt_logprobs: list[dict[int, _Listed] | None] = Field(min_length=1)


class _Token(NamedTuple):
    token_id: int
    text: str
    logprob: float


def render_chat(messages: Sequence[Message], template: str | None, *, open_turn: bool) -> str:
    """The conversation as the text that the model reads.

    Args:
        messages: Text only.
        template: Jinja source of a chat template; None joins the texts.
        open_turn: Whether the assistant's turn is opened at the end.
    """
    if template is None:
        return "".join(message.text for message in messages)
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [{"role": message.role, "content": message.text} for message in messages]
    rendered = render_jinja_template(
        conversations=[turns], chat_template=template, add_generation_prompt=open_turn
    )
    return str(rendered[0][0])


def read_echo(text: str, prompt: str, full: str, where: str) -> TokenLogprobs:
    """The part after the prompt in a body of /completions with echo.

    Raises:
        ModelResponseError: The server did not repeat its prompt, or a token straddles the
            border between prompt and answer.
    """
    choice = _read(_Echo, text, where, "/completions with echo").choices[0]
    if not choice.text.startswith(full):
        raise ModelResponseError(
            f"{where}: asked to echo {full[:60]!r}, got {choice.text[:60]!r}; the server ignores "
            f"echo. Set score: prompt_logprobs or leave it out"
        )
    if not full.startswith(prompt):
        raise ModelResponseError(
            f"{where}: the chat template changes the prompt when an answer follows it, so the "
            f"answer cannot be scored by itself"
        )
    spans = zip(
        choice.logprobs.text_offset,
        choice.logprobs.tokens,
        choice.logprobs.token_logprobs,
        strict=True,
    )
    kept = [item for item in spans if len(prompt) <= item[0] < len(full)]
    if not kept or kept[0][0] != len(prompt) or any(item[2] is None for item in kept):
        raise ModelResponseError(
            f"{where}: no token starts at the border between prompt and answer "
            f"({full[max(0, len(prompt) - 20) : len(prompt) + 20]!r}), so the answer has no "
            f"log-probabilities of its own"
        )
    return TokenLogprobs(
        tokens=tuple(token for _, token, _ in kept),
        logprobs=tuple(logprob for _, _, logprob in kept if logprob is not None),
    )


def read_prompt_logprobs(prompt_text: str, full_text: str, where: str) -> TokenLogprobs:
    """What the whole conversation's list has beyond the open prompt's, end of turn included.

    Raises:
        ModelResponseError: A body lists no log-probabilities, or the tokens of the prompt change
            when an answer follows.
    """
    prompt, full = _listed(prompt_text, where), _listed(full_text, where)
    ids = [token.token_id for token in prompt]
    if [token.token_id for token in full[: len(ids)]] != ids or len(full) == len(ids):
        raise ModelResponseError(
            f"{where}: the chat template changes the prompt when an answer follows it, so the "
            f"answer cannot be scored by itself"
        )
    scored = full[len(ids) :]
    while len(scored) > 1 and scored[-1].text.isspace():  # what a template puts between turns
        scored = scored[:-1]
    return TokenLogprobs(
        token_ids=tuple(token.token_id for token in scored),
        tokens=tuple(token.text for token in scored),
        logprobs=tuple(token.logprob for token in scored),
    )


def _listed(text: str, where: str) -> list[_Token]:
    """All tokens but the first, which nothing predicts."""
    body = _read(_Prompt, text, where, "/chat/completions with prompt_logprobs")
    tokens = []
    for entry in body.prompt_logprobs:
        if entry:
            token_id, listed = next(iter(entry.items()))  # the prompt's own token comes first
            tokens.append(_Token(token_id, listed.decoded_token or "", listed.logprob))
    return tokens


def _read(wire: type[Any], text: str, where: str, asked: str) -> Any:
    try:
        return wire.model_validate_json(text)
    except ValidationError as error:
        raise ModelResponseError(
            f"{where}: the answer to {asked} lists no log-probabilities: {text[:200]!r}. Leave "
            f"score out if the server cannot"
        ) from error
