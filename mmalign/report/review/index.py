"""All pairs and dropped samples of a run in memory, as little of each as lists and filters need.

The store is read once and then only where it has grown, so that a run can be looked at while it is
being built.
"""

import json
import math
import sys
import time
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, NamedTuple

from mmalign.engine.database import open_database, store_errors
from mmalign.engine.reviews import Review, current_reviews
from mmalign.engine.store import RunStore
from mmalign.errors import StoreError
from mmalign.report.review.queries import DIFFERENCE, ORDER, UNDECIDED, Query

__all__ = ["Facets", "Index", "Neighbours", "Row"]

_QUESTION_TYPE = "question_type"
_METADATA = "metadata."
_MAX_VALUES = 40
"""A tag with more values than this is no filter but a name."""
_SCAN = "SELECT position, status, pairs, dropped FROM outcomes"
_MAX_SINGLE_READS = 500
_MAX_RESULTS = 8
_PATIENCE = 20
"""A build that writes all the time is read for a twentieth of the time at most."""
_SETTLED = ("kept", "dropped")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list."""

    place: tuple[int, int]
    """Position of the sample, number of the record among those of the sample."""
    id: str
    """The pair's id; of a dropped sample `position.number`."""
    sample_id: str
    title: str
    """The question, or why the sample was dropped."""
    chosen: str
    rejected: str
    words: str
    """What the search looks at, in lower case."""
    tags: Mapping[str, str]
    node: str
    reason: str
    """Empty for a pair."""
    numbers: Mapping[str, float]


class Neighbours(NamedTuple):
    """Where a row stands in the result of a query."""

    number: int
    """From 1; 0 where it does not fit the filters any more."""
    before: str
    """Id of the row before it; empty at the start."""
    after: str


class Facets(NamedTuple):
    """What the filter form offers, counted over all rows of a tab."""

    tags: Mapping[str, Sequence[str]]
    nodes: Sequence[str]
    reasons: Sequence[str]
    numbers: Sequence[str]


class Index:
    """Rows of a run by position; safe to use from several threads.

    Args:
        store: Opened to be read.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._lock = Lock()
        self._connection = open_database(store.path, read_only=True)
        self._version = -1
        self._manifest: tuple[str] | None = None
        self._read_again_at = 0.0
        self._rows: dict[int, tuple[str, tuple[Row, ...], tuple[Row, ...]]] = {}
        self._reviews: dict[str, Review] = {}
        self._last_review = 0
        self._tabs: dict[str, list[Row]] = {"pairs": [], "dropped": []}
        self._by_id: dict[str, Row] = {}
        self._facets: dict[str, Facets] = {}
        self._results: dict[Query, list[Row]] = {}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def refresh(self) -> None:
        """Take in what the store has got since the last time; cheap where it has got nothing.

        Raises:
            StoreError: The store cannot be read any more.
        """
        with self._lock, store_errors(self.store.path):
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return
            if reviews := current_reviews(self.store, after=self._last_review):
                self._reviews |= reviews
                self._last_review = max(review.id for review in reviews.values())
                self._results = {
                    query: rows for query, rows in self._results.items() if not query.decision
                }
            started = time.monotonic()
            if started < self._read_again_at:
                return
            if self._read_outcomes():
                self._collect()
                self._results.clear()
            now = time.monotonic()
            self._read_again_at = now + _PATIENCE * (now - started)
            self._version = version

    def _read_outcomes(self) -> bool:
        """Whether rows came or went, seen in one snapshot however fast a build writes."""
        execute = self._connection.execute
        execute("BEGIN")
        try:
            manifest = execute("SELECT value FROM meta WHERE key = 'manifest'").fetchone()
            if manifest != self._manifest:  # the folder was rebuilt for another run
                self._rows.clear()
                self._manifest = manifest
            return self._read_new()
        finally:
            execute("COMMIT")

    def _read_new(self) -> bool:
        execute = self._connection.execute
        stored = {position for (position,) in execute("SELECT position FROM outcomes")}
        gone = self._rows.keys() - stored
        for position in gone:
            del self._rows[position]
        unsettled = {p for p, (status, _, _) in self._rows.items() if status not in _SETTLED}
        new = (stored - self._rows.keys()) | unsettled
        found: Iterable[Any]
        if len(new) > _MAX_SINGLE_READS:
            found = (row for row in execute(_SCAN) if row[0] in new)
        else:
            found = (execute(f"{_SCAN} WHERE position = ?", (p,)).fetchone() for p in new)
        changed = bool(gone)
        for position, status, pairs, dropped in found:
            known = self._rows.get(position)
            if known is None or known[0] != status:
                changed = True
                self._rows[position] = (
                    status,
                    tuple(_pair_row(position, n, line) for n, line in _lines(pairs)),
                    tuple(_dropped_row(position, n, line) for n, line in _lines(dropped)),
                )
        return changed

    def _collect(self) -> None:
        ordered = [self._rows[position] for position in sorted(self._rows)]
        self._tabs = {
            "pairs": [row for _, pairs, _ in ordered for row in pairs],
            "dropped": [row for _, _, dropped in ordered for row in dropped],
        }
        self._by_id = {row.id: row for rows in self._tabs.values() for row in rows}
        self._facets = {tab: _facets(rows) for tab, rows in self._tabs.items()}

    def num_rows(self, tab: str) -> int:
        """How many there are, filters aside."""
        return len(self._tabs[tab])

    def facets(self, tab: str) -> Facets:
        """What a tab can be filtered and sorted by."""
        return self._facets.get(tab, Facets({}, (), (), ()))

    def row(self, row_id: str) -> Row | None:
        """The row of a pair or of a dropped sample."""
        return self._by_id.get(row_id)

    def line(self, row: Row) -> str:
        """The record's JSON, as it was built.

        Raises:
            StoreError: The record is gone: the folder was rebuilt meanwhile.
        """
        column = "dropped" if row.reason else "pairs"
        position, number = row.place
        query = f"SELECT {column} FROM outcomes WHERE position = ?"  # noqa: S608  # one of two names
        with self._lock, store_errors(self.store.path):
            found = self._connection.execute(query, (position,)).fetchone()
        lines = found[0].split("\n") if found else []
        if number >= len(lines):
            raise StoreError(f"{self.store.path}: {row.id} is gone; reload the page")
        return str(lines[number])

    def review(self, pair_id: str) -> Review | None:
        """What was decided about a pair."""
        return self._reviews.get(pair_id)

    def decision(self, pair_id: str) -> str:
        """accepted, rejected, edited or undecided."""
        review = self._reviews.get(pair_id)
        return review.decision if review is not None and review.decision else UNDECIDED

    def num_decided(self) -> Counter[str]:
        """Pairs by decision."""
        counts = Counter(self.decision(pair_id) for pair_id in self._reviews)
        del counts[UNDECIDED]
        return counts

    def find(self, query: Query) -> list[Row]:
        """The rows that fit, in the order that is asked for."""
        key = query.filters
        with self._lock:
            result = self._results.get(key)
            if result is None:
                fits = self._matcher(query)
                result = [row for row in self._tabs[query.tab] if fits(row)]
                if query.sort != ORDER or query.descending:
                    result.sort(key=_sort_key(query))
                if len(self._results) >= _MAX_RESULTS:
                    del self._results[next(iter(self._results))]
                self._results[key] = result
            return result

    def neighbours(self, query: Query, row: Row) -> Neighbours:
        """The rows beside one, which need not fit any more: it has just been decided about."""
        result = self.find(query)
        places = [found.place for found in result]
        number = 0
        try:
            at = places.index(row.place)
            number = at + 1
        except ValueError:
            with_row = list(result)
            insort(with_row, row, key=_sort_key(query))
            result, at = with_row, with_row.index(row)
        return Neighbours(
            number,
            result[at - 1].id if at else "",
            result[at + 1].id if at + 1 < len(result) else "",
        )

    def _matcher(self, query: Query) -> Any:  # a function of a row
        words = query.text.lower().split()
        low = -math.inf if query.low is None else query.low
        high = math.inf if query.high is None else query.high
        bounded = query.low is not None or query.high is not None

        def fits(row: Row) -> bool:
            return (
                (not query.node or row.node == query.node)
                and (not query.reason or row.reason == query.reason)
                and (not query.decision or self.decision(row.id) == query.decision)
                and all(row.tags.get(name) == value for name, value in query.tags)
                and (not bounded or low <= row.numbers.get(query.ranged, math.nan) <= high)
                and all(word in row.words for word in words)
            )

        return fits


def _sort_key(query: Query) -> Any:  # a function of a row
    """Rows without the number stand last in either direction; ties in data-set order."""
    sign = -1 if query.descending else 1
    if query.sort == ORDER:
        return lambda row: (sign * row.place[0], sign * row.place[1])
    return lambda row: (sign * row.numbers.get(query.sort, sign * math.inf), row.place)


def _lines(block: str) -> Iterable[tuple[int, str]]:
    return enumerate(block.split("\n")) if block else ()


def _pair_row(position: int, number: int, line: str) -> Row:
    pair = json.loads(line)
    lineage = pair["lineage"]
    chosen, rejected = _last_text(pair["chosen"]), _last_text(pair["rejected"])
    prompt = [_text(message) for message in pair["prompt"]]
    tags = {sys.intern(name): sys.intern(value) for name, value in lineage["tags"].items()}
    question_type = pair["metadata"].get(_QUESTION_TYPE)
    if isinstance(question_type, str):
        tags.setdefault(_QUESTION_TYPE, sys.intern(question_type))
    scores = (pair["chosen"]["score"], pair["rejected"]["score"])
    numbers = _numbers(pair["metadata"], lineage)
    if None not in scores:
        numbers[DIFFERENCE] = scores[0] - scores[1]
    words = "\n".join([pair["id"], pair["sample_id"], *prompt, chosen, rejected, *tags.values()])
    return Row(
        place=(position, number),
        id=pair["id"],
        sample_id=pair["sample_id"],
        title=_short(prompt[-1]),
        chosen=_short(chosen),
        rejected=_short(rejected),
        words=words.lower(),
        tags=tags,
        node=sys.intern(lineage["node"] or ""),
        reason="",
        numbers=numbers,
    )


def _dropped_row(position: int, number: int, line: str) -> Row:
    drop = json.loads(line)
    tags = drop["lineage"]["tags"]
    parts = [drop["sample_id"], drop["reason"], drop["node"], drop["message"], *tags.values()]
    return Row(
        place=(position, number),
        id=f"{position}.{number}",
        sample_id=drop["sample_id"],
        title=_short(drop["message"]),
        chosen="",
        rejected="",
        words="\n".join(parts).lower(),
        tags=tags,
        node=sys.intern(drop["node"]),
        reason=sys.intern(drop["reason"]),
        numbers=_numbers({}, drop["lineage"]),
    )


def _text(message: Mapping[str, Any]) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text").strip()


def _last_text(side: Mapping[str, Any]) -> str:
    return _text(side["messages"][-1])


def _short(text: str, length: int = 160) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _numbers(metadata: Mapping[str, Any], lineage: Mapping[str, Any]) -> dict[str, float]:
    numbers = {
        sys.intern(f"{_METADATA}{name}"): float(value)
        for name, value in metadata.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if lineage["num_tokens"]:
        numbers["tokens"] = float(lineage["num_tokens"])
    if lineage["cost"]:
        numbers["cost"] = lineage["cost"]
    if lineage["created_at"]:
        with suppress(ValueError):
            numbers["time"] = datetime.fromisoformat(lineage["created_at"]).timestamp()
    return numbers


def _facets(rows: Sequence[Row]) -> Facets:
    tags: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for name, value in row.tags.items():
            tags[name].add(value)
    numbers = Counter(name for row in rows for name in row.numbers)
    return Facets(
        tags={
            name: sorted(values)
            for name, values in sorted(tags.items(), key=lambda item: item[0] != _QUESTION_TYPE)
            if 2 <= len(values) <= _MAX_VALUES
        },
        nodes=sorted({row.node for row in rows if row.node}),
        reasons=[
            name for name, _ in Counter(row.reason for row in rows if row.reason).most_common()
        ],
        numbers=sorted(numbers),
    )
