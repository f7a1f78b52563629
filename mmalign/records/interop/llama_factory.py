"""LLaMA-Factory's ranking rows in sharegpt form, with their entry in dataset_info.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign.errors import RecordError, StoreError
from mmalign.records.atomic import write_text
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
    read_placeholders,
    schemas_of,
    write_placeholders,
)
from mmalign.records.media import MediaRef
from mmalign.records.messages import Message, TextPart, ToolCall, text_of
from mmalign.records.pairs import PreferencePair, Response

__all__ = ["LLAMA_FACTORY"]

INFO = "dataset_info.json"

_ROLES = {"human": "user", "gpt": "assistant", "observation": "tool", "system": "system"}
_KNOWN = (
    "conversations",
    "instruction",
    "input",
    "history",
    "chosen",
    "rejected",
    "system",
    "tools",
    *COLUMNS.values(),
    *COLUMNS,
)


# Writing ------------------------------------------------------------------------------------


def _rows(pairs: Sequence[PreferencePair]) -> Iterator[dict[str, Any]]:
    kinds = sorted({name for pair in pairs for name in by_kind(pair.prompt)})
    has_system = any(pair.prompt[0].role == "system" for pair in pairs)
    has_tools = any(pair.tools for pair in pairs)
    for pair in pairs:
        turns = list(pair.prompt)
        row: dict[str, Any] = {}
        if has_system:
            row["system"] = turns.pop(0).text if turns[0].role == "system" else ""
        row["conversations"] = [_turn(turn) for turn in turns]
        row["chosen"] = _turn(pair.chosen.messages[-1])
        row["rejected"] = _turn(pair.rejected.messages[-1])
        row |= {name: by_kind(pair.prompt).get(name, []) for name in kinds}
        if has_tools:
            row["tools"] = json.dumps([json.loads(schema) for schema in pair.tools])
        yield {**row, ORIGIN: origin(pair)}


def _turn(turn: Message) -> dict[str, str]:
    if turn.tool_calls:
        calls = [
            {"name": call.name, "arguments": json.loads(call.arguments)} for call in turn.tool_calls
        ]
        value = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
        return {"from": "function_call", "value": value}
    role = {ours: theirs for theirs, ours in _ROLES.items()}[turn.role]
    return {"from": role, "value": write_placeholders(turn)}


def _losses(pair: PreferencePair) -> list[RowLoss]:
    losses = common_losses(pair)
    turns = (*pair.prompt, *pair.chosen.messages, *pair.rejected.messages)
    if any(side.media not in (None, pair.media) for side in (pair.chosen, pair.rejected)):
        losses.append(RowLoss("different media on the two sides", leaves_out=True))
    if any(side.tools not in (None, pair.tools) for side in (pair.chosen, pair.rejected)):
        losses.append(RowLoss("different tools on the two sides", leaves_out=True))
    if len(pair.chosen.messages) > 1 or len(pair.rejected.messages) > 1:
        losses.append(RowLoss("turns before the last one of a response", leaves_out=True))
    if any(turn.media for turn in (*pair.chosen.messages, *pair.rejected.messages)):
        losses.append(RowLoss("media within a response", leaves_out=True))
    if any(turn.tool_calls and turn.text for turn in turns):
        losses.append(RowLoss("text beside a tool call"))
    if any(not _is_json(call.arguments) for turn in turns for call in turn.tool_calls):
        losses.append(RowLoss("tool arguments that are no JSON", leaves_out=True))
    if any(turn.tool_call_id or turn.name or any(c.id for c in turn.tool_calls) for turn in turns):
        losses.append(RowLoss("ids of tool calls and names of turns (their order is kept)"))
    spoken = [turn.role for turn in pair.prompt if turn.role != "system"]
    if any((role == "assistant") != (place % 2 == 1) for place, role in enumerate(spoken)):
        losses.append(RowLoss("turns that do not alternate", leaves_out=True))
    if any(turn.role == "system" for turn in pair.prompt[1:]):
        losses.append(RowLoss("a system turn that is not the first", leaves_out=True))
    return losses


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _finish(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Enter the file in the dataset_info.json beside it."""
    info = _read_info(path)
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    present = {name for row in rows for name in row}
    columns |= {n: n for n in (*COLUMNS.values(), "system", "tools") if n in present}
    info[path.stem] = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "ranking": True,
        "columns": columns,
    }
    write_text(path.with_name(INFO), json.dumps(info, indent=2, ensure_ascii=False) + "\n")


# Reading ------------------------------------------------------------------------------------


def _read_info(path: Path) -> dict[str, Any]:
    beside = path.with_name(INFO)
    try:
        info: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as error:
        raise RecordError(f"{beside}: not valid JSON: {error}") from error
    except OSError as error:
        raise StoreError(f"{beside}: cannot be read: {error.strerror}") from error
    return info


def _columns(path: Path) -> dict[str, str]:
    """Our names of the file's columns, where dataset_info.json names others."""
    ours = {"messages": "conversations", "prompt": "instruction", "query": "input"}
    for entry in _read_info(path).values():
        if entry.get("file_name") == path.name:
            return {
                theirs: ours.get(name, name) for name, theirs in entry.get("columns", {}).items()
            }
    return {}


def _pair(row: Mapping[str, Any], source: str) -> PreferencePair:
    media = media_of_row(row, hashes_of(row))
    form: dict[str, Any] = {}
    if "conversations" in row:
        turns = [_message(turn, media) for turn in row["conversations"]]
        chosen, rejected = (_message(row[name], media) for name in ("chosen", "rejected"))
    else:
        form["formatting"] = "alpaca"
        turns = [
            Message(role=role, content=read_placeholders(text, media))
            for question, answer in row.get("history") or []
            for role, text in (("user", question), ("assistant", answer))
        ]
        question = "\n".join(filter(None, (row["instruction"], row.get("input"))))
        turns.append(Message(role="user", content=read_placeholders(question, media)))
        chosen, rejected = text_of(row["chosen"]), text_of(row["rejected"])
    if row.get("system"):
        turns.insert(0, text_of(row["system"], role="system"))
    for kind, rest in media.items():
        if rest:
            raise RecordError(
                f"{len(rest)} of the {kind} files have no <{kind}> placeholder; put one where "
                f"each belongs"
            )
    return make_pair(
        row,
        source,
        prompt=turns,
        chosen=Response(messages=(chosen,)),
        rejected=Response(messages=(rejected,)),
        known=_KNOWN,
        form=form,
        tools=schemas_of(row.get("tools")),
    )


def _message(turn: Mapping[str, Any], media: dict[str, list[MediaRef]]) -> Message:
    role, value = turn["from"], turn["value"]
    if role == "function_call":
        try:
            calls = json.loads(value)
        except json.JSONDecodeError as error:
            raise RecordError(f"a function_call holds no JSON: {value[:60]!r}") from error
        return Message(
            role="assistant",
            tool_calls=tuple(
                ToolCall(name=call["name"], arguments=arguments_text(call.get("arguments", {})))
                for call in (calls if isinstance(calls, list) else [calls])
            ),
        )
    if role not in _ROLES:
        raise RecordError(
            f"a turn is from {role!r}, expected one of {', '.join((*_ROLES, 'function_call'))}"
        )
    parts = read_placeholders(value, media)
    return Message.model_validate(
        {"role": _ROLES[role], "content": () if parts == (TextPart(text=""),) else parts}
    )


LLAMA_FACTORY = Format(
    name="llama_factory",
    rows=_rows,
    pair=_pair,
    losses=_losses,
    loses="spans; media or tools that differ between the sides; responses of several turns; time "
    "ranges and operations of media; ids of tool calls; text beside a tool call",
    lines=False,
    finish=_finish,
    columns=_columns,
)
