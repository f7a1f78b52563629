"""Hypothesis strategies that draw records, with every optional field sometimes set."""

from typing import Any, Literal

from hypothesis import strategies as st

from mmalign.records import (
    Lineage,
    MediaOperation,
    MediaPart,
    MediaRef,
    Message,
    PreferencePair,
    Response,
    Sample,
    Span,
    TextPart,
    ToolCall,
)

__all__ = ["json_values", "lineages", "media_refs", "pairs", "samples"]

# few draws for a record: whole ones are drawn in every test
_LETTERS = "aZ0 \n\t\"\\'/<>{}\x00é漢\u2028🙂"
_TEXT = st.text(_LETTERS, max_size=6)
_NAME = st.text(_LETTERS, min_size=1, max_size=4)
_SCORE = st.floats(allow_nan=False, allow_infinity=False, width=32)
_SEED = st.integers(min_value=0, max_value=2**63 - 1)


def json_values() -> st.SearchStrategy[Any]:
    """Whatever JSON can hold, numbers beyond 64 bits included."""
    return st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | _SCORE | _TEXT,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
        max_leaves=3,
    )


def _json_dicts() -> st.SearchStrategy[dict[str, Any]]:
    return st.just({}) | st.dictionaries(_TEXT, json_values(), min_size=1, max_size=1)


_OTHER = MediaRef(
    kind="video", uri="other.mp4", operations=(MediaOperation(name="crop", params={"box": [0, 1]}),)
)
_OPERATIONS: list[tuple[MediaOperation, ...]] = [
    (),
    (MediaOperation(name="reverse"),),
    (
        MediaOperation(name="swap", seed=7, stage="before_sampling", other=_OTHER),
        MediaOperation(
            name="noise", params={"std": 0.5, "nested": {"a": [None, True]}}, seed=2**62
        ),
    ),
]


def _operations() -> st.SearchStrategy[tuple[MediaOperation, ...]]:
    return st.sampled_from(_OPERATIONS)


def media_refs() -> st.SearchStrategy[MediaRef]:
    """References, with operations that may name a second clip."""
    return st.builds(
        MediaRef,
        kind=st.sampled_from(["video", "audio", "image"]),
        uri=_NAME,
        content_hash=st.sampled_from([None, "0123456789abcdef" * 2]),
        start_s=st.none() | st.floats(0, 10),
        end_s=st.sampled_from([None, 11.5]),
        operations=_operations(),
    )


def _calls() -> st.SearchStrategy[tuple[ToolCall, ...]]:
    call = st.builds(ToolCall, id=st.none() | _NAME, name=_NAME, arguments=_TEXT)
    return st.lists(call, max_size=2).map(tuple)


def _messages(
    role: Literal["system", "user", "assistant", "tool"], *, text: st.SearchStrategy[str] = _TEXT
) -> st.SearchStrategy[Message]:
    texts = st.builds(TextPart, text=text)
    media = st.builds(MediaPart, media=media_refs())
    content = st.lists(texts | media if role == "user" else texts, min_size=1, max_size=2)
    return st.builds(
        Message,
        role=st.just(role),
        content=content.map(tuple),
        tool_calls=_calls() if role == "assistant" else st.just(()),
        tool_call_id=st.none() | _NAME if role == "tool" else st.none(),
        name=st.none() | _NAME,
    )


def lineages() -> st.SearchStrategy[Lineage]:
    """Lineages with any of their fields."""
    return st.builds(
        Lineage,
        run_id=st.none() | _NAME,
        node=st.none() | _NAME,
        sampling=_json_dicts(),
        seed=st.none() | _SEED,
        operations=_operations(),
        tags=st.dictionaries(_TEXT, _TEXT, max_size=2),
        votes=_json_dicts(),
        cost=_SCORE,
        num_tokens=st.integers(0, 2**40),
        created_at=st.none() | _NAME,
    )


def samples() -> st.SearchStrategy[Sample]:
    """Samples with or without answer, choices, boxes and tests."""
    choices = st.lists(_TEXT, min_size=1, max_size=3).map(tuple)
    return st.builds(
        Sample,
        id=_NAME,
        messages=_messages("user").map(lambda turn: (turn,)),
        answer=st.none() | _TEXT,
        choices=choices,
        answer_index=st.none() | st.just(0),
        group_id=st.none() | _NAME,
        boxes=st.none() | st.tuples(st.tuples(_SCORE, _SCORE, _SCORE, _SCORE)),
        tests=st.none() | st.tuples(_TEXT),
        metadata=_json_dicts(),
    )


@st.composite
def pairs(draw: st.DrawFn) -> PreferencePair:
    """Pairs whose sides differ in text, and perhaps in media and tools as well."""
    prompt = (*draw(st.lists(_messages("system"), max_size=1)), draw(_messages("user")))
    num_media = sum(len(turn.media) for turn in prompt)
    sides = [_side(draw, prefix, num_media) for prefix in ("chosen ", "rejected ")]
    return PreferencePair(
        sample_id=draw(_NAME),
        prompt=prompt,
        chosen=sides[0],
        rejected=sides[1],
        tools=draw(st.lists(_TEXT, max_size=2).map(tuple)),
        metadata=draw(_json_dicts()),
        lineage=draw(lineages()),
    )


def _side(draw: st.DrawFn, prefix: str, num_media: int) -> Response:
    before = draw(st.just(()) | st.tuples(_messages("assistant"), _messages("tool")))
    last = draw(_messages("assistant", text=_TEXT.map(prefix.__add__)))
    media = st.lists(media_refs(), min_size=num_media, max_size=num_media).map(tuple)
    return Response(
        messages=(*before, last),
        media=draw(st.none() | media),
        tools=draw(st.none() | st.lists(_TEXT, max_size=2).map(tuple)),
        spans=draw(st.just(()) | st.just((Span(start=0, end=len(prefix), phrase_id=1),))),
        score=draw(st.none() | _SCORE),
    )
