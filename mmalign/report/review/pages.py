"""What the templates show: the list, one record whole, the questions that wait for a person."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from mmalign.engine.interrupts import WaitingSample
from mmalign.engine.reviews import Review
from mmalign.records import EXECUTION_MATRIX, DroppedSample, PreferencePair
from mmalign.report.cards import Card, Clips, lineage_facts, view_card
from mmalign.report.clips import Clip
from mmalign.report.review.index import Facets, Index, Neighbours, Row
from mmalign.report.review.queries import PAGE_SIZE, Query

__all__ = [
    "DroppedView",
    "ListView",
    "PairView",
    "QuestionView",
    "Table",
    "templates",
    "view_dropped",
    "view_list",
    "view_pair",
    "view_question",
]

_SHOWN_APART = ("Metadata", "Judge votes")


class Table(NamedTuple):
    """A value of the metadata, ready to be shown: one text, or rows of named columns."""

    name: str
    text: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class ListView:
    """A page of the list."""

    rows: Sequence[Row]
    num_found: int
    page: int
    num_pages: int
    facets: Facets


@dataclass(frozen=True)
class PairView:
    """One pair whole, as it is after its edits."""

    card: Card
    review: Review | None
    history: Sequence[Review]
    neighbours: Neighbours
    facts: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    difference: float | None


@dataclass(frozen=True)
class DroppedView:
    """One dropped sample whole."""

    record: DroppedSample
    neighbours: Neighbours
    facts: Sequence[tuple[str, str]]
    tables: Sequence[Table]


@dataclass(frozen=True)
class QuestionView:
    """What an agent asks."""

    waiting: WaitingSample
    text: str
    """The payload's own `question`, where it has one."""
    choices: Sequence[Any]
    tables: Sequence[Table]
    clips: Sequence[Clip]


def templates() -> jinja2.Environment:
    """The environment with the pages of this folder."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent, Path(__file__).parents[1]]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["words"] = lambda name: name.replace("_", " ").replace(".", " ")
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment


def view_list(index: Index, query: Query) -> ListView:
    """The page that the query names; of the record that is shown, where it names no page."""
    found = index.find(query)
    num_pages = max(1, -(-len(found) // PAGE_SIZE))
    page = min(query.page, num_pages)
    row = index.row(query.id)
    if row is not None and query.page == 1:
        number = index.neighbours(query, row).number
        page = 1 + max(0, number - 1) // PAGE_SIZE
    return ListView(
        rows=found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE],
        num_found=len(found),
        page=page,
        num_pages=num_pages,
        facets=index.facets(query.tab),
    )


def view_pair(
    pair: PreferencePair,
    *,
    review: Review | None,
    history: Sequence[Review],
    neighbours: Neighbours,
    clips: Clips,
) -> PairView:
    """A pair with its media, its origin and all that was decided about it."""
    scores = (pair.chosen.score, pair.rejected.score)
    metadata = {name: v for name, v in pair.metadata.items() if name != EXECUTION_MATRIX}
    return PairView(
        card=view_card(pair, clips),
        review=review,
        history=history,
        neighbours=neighbours,
        facts=[fact for fact in lineage_facts(pair) if fact[0] not in _SHOWN_APART],
        tables=[*_tables(pair.lineage.votes, "votes"), *_tables(metadata)],
        difference=None if scores[0] is None or scores[1] is None else scores[0] - scores[1],
    )


def view_dropped(record: DroppedSample, neighbours: Neighbours) -> DroppedView:
    """A dropped sample with what is known of its origin."""
    lineage = record.lineage
    known = lineage.model_dump(mode="json", exclude_defaults=True, exclude={"votes", "tags"})
    return DroppedView(
        record=record,
        neighbours=neighbours,
        facts=[(name.replace("_", " ").capitalize(), _text(v)) for name, v in known.items()],
        tables=_tables(lineage.votes, "votes"),
    )


def view_question(waiting: WaitingSample, clips: Clips) -> QuestionView:
    """A question with the sample that it is about."""
    payload = waiting.payload if isinstance(waiting.payload, Mapping) else {}
    asked = payload.get("question")
    choices = payload.get("choices")
    rest = {k: v for k, v in payload.items() if k not in ("question", "choices")}
    return QuestionView(
        waiting=waiting,
        text=asked if isinstance(asked, str) else "" if payload else _text(waiting.payload),
        choices=choices if isinstance(choices, list) else (),
        tables=_tables(rest),
        clips=[clips.clip(ref) for ref in waiting.sample.media],
    )


def _tables(values: Mapping[str, Any], prefix: str = "") -> list[Table]:
    """One table per value; a mapping is shown value by value, a list of mappings as rows."""
    tables: list[Table] = []
    for name, value in values.items():
        title = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            tables += _tables(value, title)
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            columns = list(dict.fromkeys(column for row in value for column in row))
            rows = [[_text(row.get(column, "")) for column in columns] for row in value]
            tables.append(Table(title, "", [c.replace("_", " ") for c in columns], rows))
        else:
            tables.append(Table(title, _text(value)))
    return tables


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(_text(item) for item in value)
    return json.dumps(value, ensure_ascii=False)
