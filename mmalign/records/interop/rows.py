"""What the formats share: sides with their own media, placeholders, tool calls, what is lost."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from mmalign.errors import RecordError
from mmalign.records.base import canonical_json, content_id
from mmalign.records.interop.formats import RowLoss
from mmalign.records.lineage import Lineage
from mmalign.records.media import MediaRef
from mmalign.records.messages import MediaPart, Message, Part, TextPart, ToolCall
from mmalign.records.pairs import PreferencePair, Response

__all__ = [
    "COLUMNS",
    "ORIGIN",
    "arguments_text",
    "by_kind",
    "common_losses",
    "hashes_of",
    "make_pair",
    "media_of_row",
    "origin",
    "prompt_of",
    "read_placeholders",
    "schemas_of",
    "tool_call",
    "write_placeholders",
]

ORIGIN = "mmalign"
"""Column of JSON text with what trainers do not need: ids, lineage, scores, metadata."""

Kind = Literal["image", "video", "audio"]
COLUMNS: dict[Kind, str] = {"image": "images", "video": "videos", "audio": "audios"}


# Writing ------------------------------------------------------------------------------------


def prompt_of(pair: PreferencePair, side: Response) -> tuple[Message, ...]:
    """The prompt with the media that one side sees."""
    if side.media is None:
        return pair.prompt
    media = iter(side.media)
    return tuple(
        turn.model_copy(
            update={
                "content": tuple(
                    MediaPart(media=next(media)) if isinstance(part, MediaPart) else part
                    for part in turn.content
                )
            }
        )
        for turn in pair.prompt
    )


def by_kind(turns: Iterable[Message]) -> dict[str, list[str]]:
    """URIs of all media of the turns in order, by the plural column of their kind."""
    columns: dict[str, list[str]] = {}
    for turn in turns:
        for media in turn.media:
            columns.setdefault(COLUMNS[media.kind], []).append(media.uri)
    return columns


def write_placeholders(turn: Message) -> str:
    """The turn's text with `<video>` and the like where its media stand.

    Raises:
        RecordError: The text itself holds a placeholder, which the target would count as media.
    """
    for kind in COLUMNS:
        if f"<{kind}>" in turn.text:
            raise RecordError(
                f"the text {turn.text[:60]!r} holds a literal <{kind}>, which the target would "
                f"take for media; reword it"
            )
    return "".join(
        part.text if isinstance(part, TextPart) else f"<{part.media.kind}>" for part in turn.content
    )


def origin(pair: PreferencePair, *, without: Sequence[str] = ()) -> str:
    """What the row does not say otherwise, as JSON text."""
    hashes = {
        media.uri: media.content_hash
        for media in (*pair.media, *(pair.chosen.media or ()), *(pair.rejected.media or ()))
        if media.content_hash
    }
    return canonical_json(
        {
            "id": pair.id,
            "sample_id": pair.sample_id,
            "lineage": pair.lineage.model_dump(mode="json", exclude_defaults=True),
            "metadata": {k: v for k, v in pair.metadata.items() if k not in without},
            "scores": [pair.chosen.score, pair.rejected.score],
            "hashes": hashes,
        }
    )


def common_losses(pair: PreferencePair, *, spans: bool = False) -> list[RowLoss]:
    """What no format of paths and texts can hold.

    Args:
        pair: The pair to export.
        spans: The format holds spans.
    """
    losses = []
    if not spans and (pair.chosen.spans or pair.rejected.spans):
        losses.append(RowLoss("spans of the differing phrases"))
    media = (*pair.media, *(pair.chosen.media or ()), *(pair.rejected.media or ()))
    if any(item.operations for item in media):
        names = sorted({operation.name for item in media for operation in item.operations})
        losses.append(RowLoss(f"media operations ({', '.join(names)})", leaves_out=True))
    if any(item.start_s is not None or item.end_s is not None for item in media):
        losses.append(RowLoss("time ranges of media", leaves_out=True))
    return losses


# Reading ------------------------------------------------------------------------------------


def read_placeholders(text: str, media: Mapping[str, list[MediaRef]]) -> tuple[Part, ...]:
    """Text and media parts; the media are taken off the front of their lists.

    Raises:
        RecordError: There are more placeholders than media.
    """
    parts: list[Part] = []
    rest = text
    while found := [(rest.find(f"<{kind}>"), kind) for kind in COLUMNS if f"<{kind}>" in rest]:
        place, kind = min(found)
        if not media.get(kind):
            raise RecordError(
                f"has more <{kind}> placeholders than {COLUMNS[kind]}: {text[:60]!r}; give one "
                f"path for each"
            )
        if place:
            parts.append(TextPart(text=rest[:place]))
        parts.append(MediaPart(media=media[kind].pop(0)))
        rest = rest[place + len(kind) + 2 :]
    if rest or not parts:
        parts.append(TextPart(text=rest))
    return tuple(parts)


def media_of_row(
    row: Mapping[str, Any], hashes: Mapping[str, str], *, prefix: str = ""
) -> dict[str, list[MediaRef]]:
    """The media columns of a row, by kind; a single path counts as a list of one.

    Raises:
        RecordError: A column holds something else than paths, as lists of frames.
    """
    media: dict[str, list[MediaRef]] = {}
    for kind, column in COLUMNS.items():
        name = prefix + column
        value = row.get(name)
        if value is None and not prefix:
            name = kind
            value = row.get(name)
        values = [] if value is None else value if isinstance(value, list) else [value]
        for item in values:
            uri = item.get("path") if isinstance(item, dict) else item
            if not isinstance(uri, str):
                raise RecordError(
                    f"{name} holds a {type(item).__name__} ({str(item)[:60]}), expected paths or "
                    f"data: URIs; write frames and bytes to a file first"
                )
            ref = MediaRef(kind=kind, uri=uri, content_hash=hashes.get(uri))
            media.setdefault(kind, []).append(ref)
    return media


def arguments_text(arguments: object) -> str:
    """Arguments of a call as JSON text, whatever form they came in."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def schemas_of(value: object) -> tuple[str, ...]:
    """Tool schemas as texts, of a list or of the JSON text of a list.

    Raises:
        RecordError: It is neither.
    """
    if not value:
        return ()
    try:
        schemas = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise RecordError(f"tools hold no JSON: {error}: {str(value)[:60]!r}") from error
    if not isinstance(schemas, list):
        raise RecordError(f"tools hold a {type(schemas).__name__}, expected a list of schemas")
    return tuple(arguments_text(schema) for schema in schemas)


def make_pair(
    row: Mapping[str, Any],
    source: str,
    *,
    prompt: Sequence[Message],
    chosen: Response,
    rejected: Response,
    known: Iterable[str],
    form: Mapping[str, Any],
    tools: Sequence[str] = (),
) -> PreferencePair:
    """The pair, with what our own exporter put beside it; other columns go to its metadata.

    Args:
        row: The row of the file.
        source: Name of the file, where the row does not say it.
        prompt: The turns before the responses.
        chosen: The response to prefer.
        rejected: The response to avoid.
        known: Columns that were read already.
        form: How the row was written, kept in `metadata["imported"]`; empty if as we write it.
        tools: Schemas of both sides' tools.

    Raises:
        RecordError: The row breaks a rule of pairs.
    """
    ours = _read_origin(row)
    used = {*known, ORIGIN, "sample_id", "id"}
    extra = {name: value for name, value in row.items() if name not in used and value is not None}
    metadata = {**ours.get("metadata", {}), **extra}
    if form:
        metadata["imported"] = dict(form)
    row_id = row.get("sample_id", row.get("id"))
    prompt_id = content_id([turn.id_content() for turn in prompt])
    scores = ours.get("scores", [None, None])
    try:
        return PreferencePair(
            id=ours.get("id", ""),
            sample_id=ours.get("sample_id") or str(prompt_id if row_id in (None, "") else row_id),
            prompt=tuple(prompt),
            chosen=chosen.model_copy(update={"score": scores[0]}),
            rejected=rejected.model_copy(update={"score": scores[1]}),
            tools=tuple(tools),
            metadata=metadata,
            lineage=Lineage(**ours.get("lineage", {"source": source})),
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise RecordError(problem) from error


def hashes_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Content hashes of media by URI, where our own exporter noted them."""
    hashes: dict[str, str] = _read_origin(row).get("hashes", {})
    return hashes


def _read_origin(row: Mapping[str, Any]) -> dict[str, Any]:
    text = row.get(ORIGIN)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (TypeError, json.JSONDecodeError) as error:
        raise RecordError(f"column {ORIGIN!r} holds no JSON text: {error}") from error
    return value if isinstance(value, dict) else {}


def tool_call(value: Mapping[str, Any]) -> ToolCall:
    """A call in OpenAI's form, with or without the `function` level."""
    inner = value.get("function", value)
    if not isinstance(inner, Mapping) or "name" not in inner:
        raise RecordError(f"a tool call has no name: {str(value)[:60]}")
    return ToolCall(
        id=value.get("id"), name=inner["name"], arguments=arguments_text(inner.get("arguments", {}))
    )
