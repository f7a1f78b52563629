"""What the page shows of a pair: its clips, both texts cut at the spans, where it came from."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mmalign.records import (
    EXECUTION_MATRIX,
    MediaRef,
    Message,
    PreferencePair,
    Response,
    Span,
)
from mmalign.records.spans import differing_spans
from mmalign.report.clips import Clip, describe_operation
from mmalign.report.matrix import MatrixView, view_matrix

__all__ = [
    "Card",
    "Clips",
    "Piece",
    "Side",
    "SideClip",
    "choose_pairs",
    "cut_at_spans",
    "lineage_facts",
    "view_card",
]

_MAX_MEDIA = 2
_GROUPING_TAGS = ("question_type", "error_category")


class Clips(Protocol):
    """Makes clips for a page of references: encoded into it, or served beside it."""

    def clip(self, ref: MediaRef) -> Clip:
        """The reference as a clip; one that cannot be read has a `problem`."""
        ...


class Piece(NamedTuple):
    """A run of text; phrase 0 is shared, others join the pieces of both sides."""

    text: str
    phrase_id: int


@dataclass(frozen=True)
class SideClip:
    """A clip under the name that says which side of the pair it belongs to."""

    label: str
    role: str
    """`shared`, `chosen`, `rejected` or `perturbed`: colours the frame."""
    clip: Clip


@dataclass(frozen=True)
class Side:
    """One response."""

    pieces: tuple[Piece, ...]
    turns: tuple[tuple[str, str], ...]
    """Role and text of the turns before the last one, where tools were called."""
    score: float | None

    @property
    def text(self) -> str:
        """The last turn's text, uncut."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Card:
    """One pair, ready for the page."""

    id: str
    sample_id: str
    prompt: tuple[tuple[str, str], ...]
    chosen: Side
    rejected: Side
    clips: tuple[SideClip, ...]
    tags: Mapping[str, str]
    facts: tuple[tuple[str, str], ...]
    """Lineage as label and value."""
    spans_from_diff: bool
    """The pair stores no spans; the marked ones were found by comparing the texts."""
    matrix: MatrixView | None = None
    """Programs against tests, where the pair was chosen by running them."""

    @property
    def same_text(self) -> bool:
        """Whether only media or tools tell the sides apart."""
        return self.chosen.text == self.rejected.text

    @property
    def search_text(self) -> str:
        """What the page's search looks at, in lower case."""
        texts = [text for _, text in self.prompt]
        texts += [self.chosen.text, self.rejected.text]
        return " ".join([self.id, self.sample_id, *texts, *self.tags.values()]).lower()


def choose_pairs(pairs: Sequence[PreferencePair], *, num_pairs: int) -> list[PreferencePair]:
    """Pairs of as many kinds as possible: in turn from each question type and error category."""
    groups: dict[tuple[str, ...], list[PreferencePair]] = defaultdict(list)
    for pair in pairs:
        groups[tuple(pair.lineage.tags.get(tag, "") for tag in _GROUPING_TAGS)].append(pair)
    longest = max((len(group) for group in groups.values()), default=0)
    in_turn = [group[i] for i in range(longest) for group in groups.values() if i < len(group)]
    return in_turn[:num_pairs]


def view_card(pair: PreferencePair, clips: Clips) -> Card:
    """The pair with its clips encoded."""
    chosen_spans, rejected_spans = pair.chosen.spans, pair.rejected.spans
    spans_from_diff = not chosen_spans and not rejected_spans
    if spans_from_diff:
        chosen_spans, rejected_spans = differing_spans(pair.chosen.text, pair.rejected.text)
    return Card(
        id=pair.id,
        sample_id=pair.sample_id,
        prompt=tuple((message.role, _turn_text(message)) for message in pair.prompt),
        chosen=_side(pair.chosen, chosen_spans),
        rejected=_side(pair.rejected, rejected_spans),
        clips=_side_clips(pair, clips),
        tags=pair.lineage.tags,
        facts=lineage_facts(pair),
        spans_from_diff=spans_from_diff and bool(chosen_spans or rejected_spans),
        matrix=view_matrix(pair.metadata, id=f"matrix-{pair.id}"),
    )


def cut_at_spans(text: str, spans: Sequence[Span]) -> tuple[Piece, ...]:
    """The text as pieces, in order; joined they are the text again.

    A span that overlaps an earlier one loses the part that both cover.
    """
    pieces: list[Piece] = []
    position = 0
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        start, end = max(span.start, position), min(span.end, len(text))
        if end <= start:
            continue
        if start > position:
            pieces.append(Piece(text[position:start], 0))
        pieces.append(Piece(text[start:end], span.phrase_id))
        position = end
    if position < len(text):
        pieces.append(Piece(text[position:], 0))
    return tuple(pieces)


def lineage_facts(pair: PreferencePair) -> tuple[tuple[str, str], ...]:
    """Where the pair came from, as labels and values; what is not known is left out."""
    lineage = pair.lineage
    operations = "; ".join(
        describe_operation(item) + ("" if item.seed is None else f", seed {item.seed}")
        for item in lineage.operations
    )
    metadata = {name: v for name, v in pair.metadata.items() if name != EXECUTION_MATRIX}
    facts: Mapping[str, Any] = {
        "Pair": pair.id,
        "Sample": pair.sample_id,
        "Graph": lineage.graph,
        "Node": lineage.node,
        "Policy": lineage.policy,
        "Judge": lineage.judge,
        "Sampling": _words(lineage.sampling),
        "Seed": lineage.seed,
        "Data set": lineage.source,
        "Clip hash": lineage.source_clip,
        "Operations": operations,
        "Judge votes": _words(lineage.votes),
        "Cost": f"{lineage.cost:.6g}" if lineage.cost else None,
        "Tokens": f"{lineage.num_tokens:,}" if lineage.num_tokens else None,
        "Built": lineage.created_at,
        "mmalign": lineage.version,
        "Metadata": _words(metadata),
    }
    return tuple((label, str(value)) for label, value in facts.items() if value not in (None, ""))


def _side(response: Response, spans: Sequence[Span]) -> Side:
    return Side(
        pieces=cut_at_spans(response.text, spans),
        turns=tuple((message.role, _turn_text(message)) for message in response.messages[:-1]),
        score=response.score,
    )


def _turn_text(message: Message) -> str:
    calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
    return "\n".join(part for part in (message.text.strip(), *calls) if part)


def _side_clips(pair: PreferencePair, clips: Clips) -> tuple[SideClip, ...]:
    shared = pair.media
    chosen = shared if pair.chosen.media is None else pair.chosen.media
    rejected = shared if pair.rejected.media is None else pair.rejected.media
    shown: list[SideClip] = []
    if chosen == rejected:
        shown += [SideClip("Both sides", "shared", clips.clip(ref)) for ref in chosen[:_MAX_MEDIA]]
    else:
        shown += [SideClip("Chosen", "chosen", clips.clip(ref)) for ref in chosen[:_MAX_MEDIA]]
        shown += [
            SideClip("Rejected", "rejected", clips.clip(ref)) for ref in rejected[:_MAX_MEDIA]
        ]
    source = _source_clip(pair)
    if pair.lineage.operations and source is not None:
        perturbed = source.then(*pair.lineage.operations)
        if perturbed not in (*chosen, *rejected):
            shown.append(SideClip("Perturbed for the policy", "perturbed", clips.clip(perturbed)))
    return tuple(shown)


def _source_clip(pair: PreferencePair) -> MediaRef | None:
    """The prompt's clip that the lineage names, else its first video."""
    videos = [ref for ref in pair.media if ref.kind == "video"]
    named = [ref for ref in videos if ref.content_hash == pair.lineage.source_clip is not None]
    return next(iter(named or videos), None)


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
    )
