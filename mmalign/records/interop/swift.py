"""ms-swift's preference rows: messages that end with the chosen answer, and the rejected side."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmalign.errors import RecordError
from mmalign.records.interop.formats import Format, RowLoss
from mmalign.records.interop.rows import (
    COLUMNS,
    ORIGIN,
    arguments_text,
    by_kind,
    common_losses,
    hashes_of,
    make_pair,
    media_of_row,
    origin,
    prompt_of,
    read_placeholders,
    schemas_of,
    tool_call,
    write_placeholders,
)
from mmalign.records.media import MediaRef
from mmalign.records.messages import Message, TextPart, ToolCall, text_of
from mmalign.records.pairs import PreferencePair, Response

__all__ = ["SWIFT"]

_REJECTED = ("response", "messages", "images", "videos", "audios", "tools")
_KNOWN = (
    "messages",
    "tools",
    "objects",
    *COLUMNS,
    *COLUMNS.values(),
    *(f"rejected_{name}" for name in _REJECTED),
)


# Writing ------------------------------------------------------------------------------------


def _rows(pairs: Sequence[PreferencePair]) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        chosen = (*prompt_of(pair, pair.chosen), *pair.chosen.messages)
        rejected = (*prompt_of(pair, pair.rejected), *pair.rejected.messages)
        row: dict[str, Any] = {"messages": _messages(chosen), **by_kind(chosen)}
        chosen_tools = pair.tools if pair.chosen.tools is None else pair.chosen.tools
        rejected_tools = pair.tools if pair.rejected.tools is None else pair.rejected.tools
        if chosen_tools:
            row["tools"] = _schemas(chosen_tools)
        only_text = len(pair.rejected.messages) == 1 and not pair.rejected.messages[0].tool_calls
        if (
            only_text
            and by_kind(chosen) == by_kind(rejected)
            and chosen_tools == rejected_tools
            and len(pair.chosen.messages) == 1
        ):
            row["rejected_response"] = write_placeholders(pair.rejected.messages[0])
        else:
            row["rejected_messages"] = _messages(rejected)
            row |= {f"rejected_{name}": uris for name, uris in by_kind(rejected).items()}
            if rejected_tools:
                row["rejected_tools"] = _schemas(rejected_tools)
        if "objects" in pair.metadata:
            row["objects"] = pair.metadata["objects"]
        yield {**row, ORIGIN: origin(pair, without=["objects"])}


def _messages(turns: Sequence[Message]) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for turn in turns:
        role = "tool_response" if turn.role == "tool" else turn.role
        if turn.content or not turn.tool_calls:
            rows.append({"role": role, "content": write_placeholders(turn)})
        for call in turn.tool_calls:
            value = {"name": call.name, "arguments": _arguments(call)}
            rows.append({"role": "tool_call", "content": json.dumps(value, ensure_ascii=False)})
    return rows


def _arguments(call: ToolCall) -> Any:
    try:
        return json.loads(call.arguments)
    except json.JSONDecodeError:
        return call.arguments


def _schemas(tools: Sequence[str]) -> str:
    return json.dumps([json.loads(schema) for schema in tools], ensure_ascii=False)


def _losses(pair: PreferencePair) -> list[RowLoss]:
    losses = common_losses(pair)
    turns = (*pair.prompt, *pair.chosen.messages, *pair.rejected.messages)
    if any(
        call.id or turn.tool_call_id for turn in turns for call in (turn.tool_calls or (_NONE,))
    ):
        losses.append(RowLoss("ids of tool calls (their order is kept)"))
    if pair.prompt[-1].role == "tool":
        losses.append(RowLoss("where the prompt ends (all behind the last question is answer)"))
    return losses


_NONE = ToolCall(name="", arguments="")


# Reading ------------------------------------------------------------------------------------


def _pair(row: Mapping[str, Any], source: str) -> PreferencePair:
    form: dict[str, Any] = {}
    hashes = hashes_of(row)
    turns = _turns("messages", row.get("messages"), media_of_row(row, hashes), form)
    start = len(turns)
    while start and turns[start - 1].role in ("assistant", "tool"):
        start -= 1
    prompt, chosen = turns[:start], turns[start:]
    if row.get("rejected_messages") is not None:
        # without columns of its own the rejected side shows the chosen one's media
        own = any(row.get(f"rejected_{name}") is not None for name in COLUMNS.values())
        media = media_of_row(row, hashes, prefix="rejected_" if own else "")
        rejected_turns = _turns("rejected_messages", row["rejected_messages"], media, form)
        rejected = rejected_turns[start:]
        rejected_prompt = rejected_turns[:start]
        if [turn.text for turn in rejected_prompt] != [turn.text for turn in prompt]:
            raise RecordError(
                "rejected_messages do not begin with the same questions as messages; both sides "
                "of a pair answer one prompt"
            )
        seen = tuple(item for turn in rejected_prompt for item in turn.media)
    else:
        rejected, seen = _rejected_response(row), None
    shown = tuple(item for turn in prompt for item in turn.media)
    tools = row.get("rejected_tools")
    if tools == row.get("tools"):
        tools = None
    metadata = {"objects": row["objects"]} if row.get("objects") is not None else {}
    pair = make_pair(
        row,
        source,
        prompt=prompt,
        chosen=_response("messages", chosen),
        rejected=_response(
            "rejected_messages", rejected, None if seen in (None, shown) else seen, tools
        ),
        known=_KNOWN,
        form=form,
        tools=schemas_of(row.get("tools")),
    )
    return pair if not metadata else pair.model_copy(update={"metadata": pair.metadata | metadata})


def _rejected_response(row: Mapping[str, Any]) -> tuple[Message, ...]:
    value = row.get("rejected_response")
    if isinstance(value, list):
        return _turns("rejected_response", value, {}, {})
    if not isinstance(value, str):
        raise RecordError("has neither rejected_response nor rejected_messages")
    return (text_of(value),)


def _response(
    name: str,
    turns: tuple[Message, ...],
    media: tuple[MediaRef, ...] | None = None,
    tools: object = None,
) -> Response:
    if not turns:
        raise RecordError(f"{name} end without an answer of the assistant")
    return Response(messages=turns, media=media, tools=None if tools is None else schemas_of(tools))


def _turns(
    name: str, value: object, media: dict[str, list[MediaRef]], form: dict[str, Any]
) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise RecordError(f"{name} is a {type(value).__name__}, expected a list of messages")
    turns: list[Message] = []
    for item in value:
        role, content = item["role"], item.get("content") or ""
        if role == "tool_call":
            call = _call(content, form)
            last = turns[-1] if turns and turns[-1].role == "assistant" else None
            if last is None:
                turns.append(Message(role="assistant", tool_calls=(call,)))
            else:
                turns[-1] = last.model_copy(update={"tool_calls": (*last.tool_calls, call)})
            continue
        calls = tuple(tool_call(call) for call in item.get("tool_calls") or ())
        if calls:
            form["tool_calls"] = "openai"
        parts = read_placeholders(content, media) if content or not calls else ()
        turns.append(
            Message(
                role="tool" if role in ("tool_response", "tool") else role,
                content=parts if parts != (TextPart(text=""),) else (),
                tool_calls=calls,
                tool_call_id=item.get("tool_call_id"),
            )
        )
    for kind, rest in media.items():
        if rest:
            raise RecordError(
                f"{name}: {len(rest)} of the {kind} files have no <{kind}> placeholder; put one "
                f"where each belongs"
            )
    return tuple(turns)


def _call(content: str | Mapping[str, Any], form: dict[str, Any]) -> ToolCall:
    try:
        value = json.loads(content) if isinstance(content, str) else content
    except json.JSONDecodeError as error:
        raise RecordError(f"a tool_call holds no JSON: {error}: {str(content)[:60]!r}") from error
    if not isinstance(value, dict) or "name" not in value:
        raise RecordError(f"a tool_call has no name: {str(content)[:60]!r}")
    if isinstance(value.get("arguments"), str):
        form["arguments"] = "text"
    return ToolCall(name=value["name"], arguments=arguments_text(value.get("arguments", {})))


SWIFT = Format(
    name="swift",
    rows=_rows,
    pair=_pair,
    losses=_losses,
    loses="spans; time ranges and operations of media; ids of tool calls; the spacing of tool "
    "arguments",
)
