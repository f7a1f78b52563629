"""TRL's preference rows: message lists with typed parts, or plain strings."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmalign.errors import RecordError
from mmalign.records.interop.formats import Format, RowLoss
from mmalign.records.interop.rows import (
    COLUMNS,
    ORIGIN,
    by_kind,
    common_losses,
    hashes_of,
    make_pair,
    media_of_row,
    origin,
    schemas_of,
    tool_call,
)
from mmalign.records.media import MediaRef
from mmalign.records.messages import MediaPart, Message, Part, TextPart, text_of, user
from mmalign.records.pairs import PreferencePair, Response

__all__ = ["TRL", "TRL_PLAIN"]

_KNOWN = ("prompt", "chosen", "rejected", "tools", *COLUMNS, *COLUMNS.values())


# Writing ------------------------------------------------------------------------------------


def _rows(pairs: Sequence[PreferencePair]) -> Iterator[dict[str, Any]]:
    # one column has one type in all rows: parts everywhere as soon as one pair has media
    parts = any(pair.media for pair in pairs)
    kinds = {name for pair in pairs for name in by_kind(pair.prompt)}
    tools = any(pair.tools for pair in pairs)
    for pair in pairs:
        row: dict[str, Any] = {
            "prompt": [_message(turn, parts) for turn in pair.prompt],
            "chosen": [_message(turn, parts) for turn in pair.chosen.messages],
            "rejected": [_message(turn, parts) for turn in pair.rejected.messages],
        }
        row |= {name: by_kind(pair.prompt).get(name, []) for name in sorted(kinds)}
        if tools:  # as text: Arrow would fill the schemas of different tools with nulls
            row["tools"] = json.dumps([json.loads(schema) for schema in pair.tools])
        yield {**row, ORIGIN: origin(pair)}


def _message(turn: Message, parts: bool) -> dict[str, Any]:
    content: Any = turn.text
    if parts:
        content = [
            {"type": "text", "text": part.text}
            if isinstance(part, TextPart)
            else {"type": part.media.kind}
            for part in turn.content
        ]
    message: dict[str, Any] = {"role": turn.role, "content": content}
    if turn.tool_calls:
        message["tool_calls"] = [
            {
                "type": "function",
                **({} if call.id is None else {"id": call.id}),
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in turn.tool_calls
        ]
    if turn.tool_call_id is not None:
        message["tool_call_id"] = turn.tool_call_id
    if turn.name is not None:
        message["name"] = turn.name
    return message


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _losses(pair: PreferencePair) -> list[RowLoss]:
    losses = common_losses(pair)
    turns = (*pair.prompt, *pair.chosen.messages, *pair.rejected.messages)
    if any(side.media not in (None, pair.media) for side in (pair.chosen, pair.rejected)):
        losses.append(RowLoss("different media on the two sides", leaves_out=True))
    if any(side.tools not in (None, pair.tools) for side in (pair.chosen, pair.rejected)):
        losses.append(RowLoss("different tools on the two sides", leaves_out=True))
    if any(turn.media for turn in (*pair.chosen.messages, *pair.rejected.messages)):
        losses.append(RowLoss("media within a response", leaves_out=True))
    if any(media.kind == "audio" for media in pair.media):
        losses.append(RowLoss("audio", leaves_out=True))
    if any(
        not isinstance(_arguments(call.arguments), dict)
        for turn in turns
        for call in turn.tool_calls
    ):
        losses.append(RowLoss("tool arguments that are no JSON object"))
    return losses


def _plain_rows(pairs: Sequence[PreferencePair]) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        yield {
            "prompt": pair.prompt[-1].text,
            "chosen": pair.chosen.text,
            "rejected": pair.rejected.text,
            ORIGIN: origin(pair),
        }


def _plain_losses(pair: PreferencePair) -> list[RowLoss]:
    losses = common_losses(pair)
    if any(turn.media for turn in pair.prompt) or pair.chosen.media or pair.rejected.media:
        losses.append(RowLoss("media", leaves_out=True))
    if len(pair.prompt) > 1:
        losses.append(RowLoss("turns before the last one of the prompt", leaves_out=True))
    if len(pair.chosen.messages) > 1 or len(pair.rejected.messages) > 1:
        losses.append(RowLoss("turns before the last one of a response", leaves_out=True))
    if pair.tools or any(side.messages[-1].tool_calls for side in (pair.chosen, pair.rejected)):
        losses.append(RowLoss("tools and their calls", leaves_out=True))
    return losses


# Reading ------------------------------------------------------------------------------------


def _pair(row: Mapping[str, Any], source: str) -> PreferencePair:
    prompt, chosen, rejected = (row.get(name) for name in ("prompt", "chosen", "rejected"))
    form: dict[str, Any] = {}
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not isinstance(prompt, str):
            raise RecordError(
                "chosen and rejected are strings and there is no prompt string: where the prompt "
                "ends cannot be told. Add a column prompt"
            )
        return make_pair(
            row,
            source,
            prompt=[user(prompt)],
            chosen=Response(messages=(text_of(chosen),)),
            rejected=Response(messages=(text_of(rejected),)),
            known=_KNOWN,
            form=form,
        )
    media = media_of_row(row, hashes_of(row))
    turns = {
        name: _turns(name, value, media, form)
        for name, value in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected))
    }
    split = _split_prompt(turns["prompt"], turns["chosen"], turns["rejected"], form)
    num_parts = sum(len(turn.media) for turn in split.prompt)
    if (num_media := sum(map(len, media.values()))) != num_parts:
        raise RecordError(
            f"the row names {num_media} media files, the prompt has parts for {num_parts}; give "
            f"one part for each file"
        )
    return make_pair(
        row,
        source,
        prompt=split.prompt,
        chosen=Response(messages=split.chosen),
        rejected=Response(messages=split.rejected),
        known=_KNOWN,
        form=form,
        tools=schemas_of(row.get("tools")),
    )


class _Split(NamedTuple):
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]


def _split_prompt(
    prompt: tuple[Message, ...],
    chosen: tuple[Message, ...],
    rejected: tuple[Message, ...],
    form: dict[str, Any],
) -> _Split:
    """Prompt and answers, where the prompt may stand before both answers as well, or only there."""
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    if not prompt:
        while common and chosen[common - 1].role not in ("user", "tool"):
            common -= 1
        if not common:
            raise RecordError(
                "there is no prompt, and chosen and rejected do not begin with the same turns; "
                "add a column prompt"
            )
        form["prompt"] = "implicit"
        return _Split(chosen[:common], chosen[common:], rejected[common:])
    repeats = [side[: len(prompt)] == prompt for side in (chosen, rejected)]
    if all(repeats):
        form["prompt"] = "repeated"
        return _Split(prompt, chosen[len(prompt) :], rejected[len(prompt) :])
    if any(repeats) or any(side[0].role != "assistant" for side in (chosen, rejected) if side):
        raise RecordError(
            "the prompt stands before one of the responses, or other turns do; both responses "
            "must repeat the prompt exactly or begin with the assistant's turn"
        )
    return _Split(prompt, chosen, rejected)


def _turns(
    name: str, value: object, media: dict[str, list[MediaRef]], form: dict[str, Any]
) -> tuple[Message, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        form[f"{name}_type"] = "string"
        return (user(value) if name == "prompt" else text_of(value),)
    if not isinstance(value, list):
        raise RecordError(f"{name} is a {type(value).__name__}, expected a string or messages")
    # a prompt that the responses repeat shows the same media again
    pool = {kind: list(items) for kind, items in media.items()}
    return tuple(_turn(item, pool, form) for item in value)


def _turn(
    value: Mapping[str, Any], media: dict[str, list[MediaRef]], form: dict[str, Any]
) -> Message:
    content = value.get("content")
    parts: list[Part] = []
    for item in [content] if isinstance(content, str) else content or []:
        kind = "text" if isinstance(item, str) else item.get("type")
        if kind == "text":
            parts.append(TextPart(text=item if isinstance(item, str) else item["text"]))
        elif kind in COLUMNS:
            if not media.get(kind):
                raise RecordError(f"more {kind} parts than paths in {COLUMNS[kind]}")
            parts.append(MediaPart(media=media[kind].pop(0)))
        else:
            raise RecordError(f"a content part has the type {kind!r}, expected text or media")
    calls = value.get("tool_calls") or []
    if any(isinstance(c.get("function", c).get("arguments"), str) for c in calls):
        form["arguments"] = "text"
    return Message(
        role=value["role"],
        content=tuple(parts),
        tool_calls=tuple(tool_call(call) for call in calls),
        tool_call_id=value.get("tool_call_id"),
        name=value.get("name"),
    )


TRL = Format(
    name="trl",
    rows=_rows,
    pair=_pair,
    losses=_losses,
    loses="spans; media or tools that differ between the sides; media within responses; audio; "
    "time ranges and operations of media; the spacing of tool arguments",
)
TRL_PLAIN = Format(
    name="trl_plain",
    rows=_plain_rows,
    pair=_pair,
    losses=_plain_losses,
    loses="spans, media, tools, all turns but the question and the answer",
)
