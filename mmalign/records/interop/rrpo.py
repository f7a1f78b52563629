"""The JSON that RRPO's loaders read: one video, two answers, marks around what differs.

Source: RRPO (Sarkar & Etemad, 2025), the released data's fields.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmalign.errors import RecordError
from mmalign.records.interop.formats import Format, RowLoss
from mmalign.records.interop.rows import ORIGIN, common_losses, hashes_of, make_pair, origin
from mmalign.records.media import MediaRef
from mmalign.records.messages import Message, TextPart, text_of, user
from mmalign.records.pairs import PreferencePair, Response, Span
from mmalign.records.spans import TaggedText, parse_tagged, write_tagged

__all__ = ["RRPO"]

_IMAGE = "<image>"
_KNOWN = (
    *("question", "answer", "pred", "answer_masked", "pred_masked"),
    *("src", "sample_id", "video", "media_path"),
)


def _rows(pairs: Sequence[PreferencePair]) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        yield {
            "question": f"{_IMAGE}\n{_question(pair)}",
            "answer": pair.chosen.text,
            "pred": pair.rejected.text,
            "answer_masked": write_tagged(pair.chosen.text, pair.chosen.spans, add_spaces=True),
            "pred_masked": write_tagged(pair.rejected.text, pair.rejected.spans, add_spaces=True),
            "src": pair.lineage.source or "",
            "sample_id": pair.sample_id,
            "video": pair.media[0].uri,
            ORIGIN: origin(pair),
        }


def _question(pair: PreferencePair) -> str:
    text = pair.prompt[-1].text
    if _IMAGE in text:
        raise RecordError(
            f"the question {text[:60]!r} holds a literal {_IMAGE}, which stands for the video; "
            f"reword it"
        )
    return text


def _losses(pair: PreferencePair) -> list[RowLoss]:
    losses = common_losses(pair, spans=True)
    if [media.kind for media in pair.media] != ["video"]:
        kinds = ", ".join(media.kind for media in pair.media) or "none"
        losses.append(RowLoss(f"media that are not one video ({kinds})", leaves_out=True))
    if any(side.media not in (None, pair.media) for side in (pair.chosen, pair.rejected)):
        losses.append(RowLoss("different media on the two sides", leaves_out=True))
    if len(pair.prompt) > 1:
        losses.append(RowLoss("turns before the last one of the prompt", leaves_out=True))
    elif pair.media and isinstance(pair.prompt[0].content[0], TextPart):
        losses.append(RowLoss("text before the video", leaves_out=True))
    sides = (pair.chosen, pair.rejected)
    if any(len(side.messages) > 1 for side in sides):
        losses.append(RowLoss("turns before the last one of a response", leaves_out=True))
    if pair.tools or any(side.tools or side.messages[-1].tool_calls for side in sides):
        losses.append(RowLoss("tools and their calls", leaves_out=True))
    if not all(side.spans for side in sides):
        losses.append(RowLoss("a side without spans, which the loaders skip", leaves_out=True))
    elif any(
        [span.phrase_id for span in sorted(side.spans, key=_start)]
        != list(range(1, len(side.spans) + 1))
        for side in sides
    ):
        losses.append(RowLoss("which phrases belong together (marks are counted from the left)"))
    return losses


def _start(span: Span) -> int:
    return span.start


def _pair(row: Mapping[str, Any], source: str) -> PreferencePair:
    missing = [name for name in ("question", "answer", "pred") if not row.get(name)]
    if missing:
        raise RecordError(f"field {missing[0]!r} is missing or empty")
    uri = row.get("video") or row.get("media_path")
    if not isinstance(uri, str):
        raise RecordError("names no video; its path stands in 'video' (or 'media_path')")
    question = row["question"]
    if question.count(_IMAGE) != 1:
        raise RecordError(
            f"the question holds {question.count(_IMAGE)} {_IMAGE} placeholders, expected one, "
            f"which stands for the video: {question[:60]!r}"
        )
    before, after = question.split(_IMAGE)
    form: dict[str, Any] = {}
    if before.strip():
        raise RecordError(f"the question has text before {_IMAGE}: {question[:60]!r}")
    if not row.get("video"):
        form["video"] = "media_path"
    clip = MediaRef(kind="video", uri=uri, content_hash=hashes_of(row).get(uri))
    prompt: list[Message] = [user(after.removeprefix("\n"), clip)]
    return make_pair(
        row,
        str(row.get("src") or source),
        prompt=prompt,
        chosen=_side(row, "answer"),
        rejected=_side(row, "pred"),
        known=_KNOWN,
        form=form,
    )


def _side(row: Mapping[str, Any], name: str) -> Response:
    text = row[name]
    marked = row.get(f"{name}_masked")
    spans = _tagged(name, text, marked).spans if marked else ()
    return Response(messages=(text_of(text),), spans=spans)


def _tagged(name: str, text: str, marked: str) -> TaggedText:
    """The marks, whichever way they were put: with a space inside each, or without."""
    found = [parse_tagged(marked), parse_tagged(marked, drop_spaces=True)]
    for tagged in found:
        if tagged.text == text:
            return tagged
    raise RecordError(
        f"{name}_masked without its marks is {found[1].text[:60]!r}, not the {name} "
        f"{text[:60]!r}; the two must agree"
    )


RRPO = Format(
    name="rrpo",
    rows=_rows,
    pair=_pair,
    losses=_losses,
    loses="everything but one whole video, one question and two answers; which phrases belong "
    "together where their order differs",
    lines=False,
)
