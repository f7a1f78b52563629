"""A pair whose texts a person has changed: a pair of its own, checked like any other."""

from pydantic import ValidationError

from mmalign.errors import RecordError
from mmalign.records import MediaPart, Message, PreferencePair, Response, TextPart
from mmalign.records.spans import differing_spans

__all__ = ["edited_pair"]


def edited_pair(pair: PreferencePair, chosen: str | None, rejected: str | None) -> PreferencePair:
    """The pair with other texts; where it had spans, they are found anew by comparing the texts.

    Args:
        pair: As it was built.
        chosen: Text of the last turn of that side; None leaves the side's text as it is.
        rejected: The same for the other side.

    Returns:
        A pair with an id of its own, unless no text is given.

    Raises:
        RecordError: A text is empty or both sides became the same.
    """
    if chosen is None and rejected is None:
        return pair
    texts = (
        pair.chosen.text if chosen is None else chosen,
        pair.rejected.text if rejected is None else rejected,
    )
    had_spans = pair.chosen.spans or pair.rejected.spans
    spans = differing_spans(*texts) if had_spans else ((), ())
    sides = [
        side.model_copy(update={"messages": _with_text(side, text), "spans": side_spans})
        for side, text, side_spans in zip((pair.chosen, pair.rejected), texts, spans, strict=True)
    ]
    try:
        return PreferencePair(
            sample_id=pair.sample_id,
            prompt=pair.prompt,
            chosen=sides[0],
            rejected=sides[1],
            tools=pair.tools,
            metadata=pair.metadata,
            lineage=pair.lineage,
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise RecordError(f"pair {pair.id!r}: the edited texts make no pair: {problem}") from error


def _with_text(side: Response, text: str) -> tuple[Message, ...]:
    """The turns with the last one's text replaced, its media left where they are."""
    last = side.messages[-1]
    media = [part for part in last.content if isinstance(part, MediaPart)]
    content = (*media, TextPart(text=text))
    return (*side.messages[:-1], last.model_copy(update={"content": content}))
