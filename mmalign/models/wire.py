"""Read what an OpenAI-compatible server answers, whole or as a stream of events."""

import json
from collections.abc import AsyncIterable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mmalign.errors import ModelResponseError
from mmalign.models.protocol import Completion, TokenLogprobs, Usage
from mmalign.records import ToolCall

__all__ = ["Answer", "join_stream", "read_answer"]

_FINISH: Mapping[str | None, Literal["stop", "length", "tool_calls", "content_filter"]] = {
    None: "stop",
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class Answer(NamedTuple):
    """One HTTP answer: as many completions as the server chose to give."""

    completions: tuple[Completion, ...]
    has_usage: bool
    """False: the server keeps no count of tokens, so costs cannot be known."""


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Function(_Wire):
    name: str
    arguments: str = "{}"

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Some servers parse the arguments already."""
        return json.dumps(value) if isinstance(value, dict) else value


class _ToolCall(_Wire):
    id: str | None = None
    function: _Function


class _TextPart(_Wire):
    text: str = ""


class _Message(_Wire):
    content: str | list[_TextPart] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or self.refusal or ""


class _TokenLogprob(_Wire):
    token: str
    logprob: float
    id: int | None = None


class _Logprobs(_Wire):
    content: list[_TokenLogprob] | None = None


class _Choice(_Wire):
    index: int = 0
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    token_ids: list[int] | None = None


class _Usage(_Wire):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(_Wire):
    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: _Usage | None = None


def read_answer(text: str, where: str) -> Answer:
    """The completions in a body of /chat/completions.

    The prompt's tokens are charged to the first completion only, so that the sum over the
    completions is what the request cost.

    Raises:
        ModelResponseError: The body is not JSON, has another schema, or holds no choice.
    """
    try:
        answer = _Answer.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ModelResponseError(
            f"{where}: {place} of the answer: {first['msg']}; expected the body of a chat "
            f"completion, found {text[:200]!r}"
        ) from error
    choices = sorted(answer.choices, key=lambda choice: choice.index)
    logprobs = [_token_logprobs(choice) for choice in choices]
    usage = answer.usage or _Usage()
    shares = _shares(usage.completion_tokens, logprobs)
    return Answer(
        tuple(
            Completion(
                text=choice.message.text,
                tool_calls=_tool_calls(choice.message),
                finish_reason=_finish_reason(choice, where),
                logprobs=logprobs[place],
                usage=Usage(
                    prompt_tokens=usage.prompt_tokens if place == 0 else 0,
                    completion_tokens=shares[place],
                ),
                model=answer.model or "",
            )
            for place, choice in enumerate(choices)
        ),
        has_usage=answer.usage is not None,
    )


async def join_stream(events: AsyncIterable[object], where: str) -> str:
    """The body that the server would have sent at once.

    Raises:
        ModelResponseError: The stream ended before every choice had its finish reason.
    """
    choices: dict[int, dict[str, Any]] = {}
    rest: dict[str, Any] = {}
    async for event in events:
        if not isinstance(event, Mapping):
            raise ModelResponseError(
                f"{where}: an event of the stream is no object: {event!r:.200}"
            )
        if event.get("usage"):
            rest["usage"] = event["usage"]
        if event.get("model"):
            rest["model"] = event["model"]
        for part in event.get("choices") or ():
            _add(choices.setdefault(part.get("index", 0), _empty_choice(part)), part)
    unfinished = [index for index, choice in choices.items() if choice["finish_reason"] is None]
    if unfinished or not choices:
        raise ModelResponseError(
            f"{where}: the stream was cut: {len(unfinished)} of {len(choices)} choices have no "
            f"finish reason"
        )
    for choice in choices.values():
        calls = choice["message"]["tool_calls"]
        choice["message"]["tool_calls"] = [calls[index] for index in sorted(calls)]
    return json.dumps({"choices": list(choices.values()), **rest})


def _empty_choice(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "index": part.get("index", 0),
        "message": {"content": "", "tool_calls": {}},
        "finish_reason": None,
        "logprobs": None,
    }


def _add(choice: dict[str, Any], part: Mapping[str, Any]) -> None:
    delta: Mapping[str, Any] = part.get("delta") or {}
    message = choice["message"]
    message["content"] += delta.get("content") or ""
    if part.get("finish_reason"):
        choice["finish_reason"] = part["finish_reason"]
    if part.get("logprobs"):
        seen = choice["logprobs"] or {"content": []}
        seen["content"] += part["logprobs"].get("content") or []
        choice["logprobs"] = seen
    for piece in delta.get("tool_calls") or ():
        call = message["tool_calls"].setdefault(
            piece.get("index", 0), {"id": None, "function": {"name": "", "arguments": ""}}
        )
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def _tool_calls(message: _Message) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in message.tool_calls or ()
    )


def _finish_reason(
    choice: _Choice, where: str
) -> Literal["stop", "length", "tool_calls", "content_filter"]:
    if choice.message.tool_calls and choice.finish_reason in (None, "stop"):
        return "tool_calls"
    if choice.message.refusal and not choice.message.content:
        return "content_filter"
    try:
        return _FINISH[choice.finish_reason]
    except KeyError:
        raise ModelResponseError(
            f"{where}: the answer ended with {choice.finish_reason!r}; expected stop, length, "
            f"tool_calls or content_filter"
        ) from None


def _token_logprobs(choice: _Choice) -> TokenLogprobs | None:
    content = choice.logprobs.content if choice.logprobs else None
    if content is None:
        return None
    ids = choice.token_ids
    if ids is None or len(ids) != len(content):
        stated = [token.id for token in content if token.id is not None]
        ids = stated if len(stated) == len(content) else []
    return TokenLogprobs(
        token_ids=tuple(ids),
        tokens=tuple(token.token for token in content),
        logprobs=tuple(token.logprob for token in content),
    )


def _shares(completion_tokens: int, logprobs: list[TokenLogprobs | None]) -> list[int]:
    """Tokens per choice: counted where the tokens are listed, else equal parts of the total."""
    if all(item is not None for item in logprobs):
        counted = [len(item.tokens) for item in logprobs if item is not None]
        if sum(counted) >= completion_tokens:
            return counted
    share, left = divmod(completion_tokens, len(logprobs))
    return [share + (1 if place < left else 0) for place in range(len(logprobs))]
