"""What people decide about pairs: accepted, rejected, edited; every decision stays on record.

Decisions are rows of the run's store that are only ever added, by a connection of their own: they
can be made while a build is writing outcomes.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from mmalign.engine.database import open_database, store_errors
from mmalign.engine.edits import edited_pair
from mmalign.engine.store import RunStore
from mmalign.records import DroppedSample, Lineage, PreferencePair, Response

__all__ = [
    "REVIEW_NODE",
    "REVIEW_REJECTED",
    "Action",
    "Decision",
    "Review",
    "ReviewLosses",
    "current_reviews",
    "decide",
    "review_history",
    "review_losses",
    "reviewed",
    "reviewed_lines",
    "undo",
]

Action = Literal["accept", "reject", "edit", "undo"]
Decision = Literal["accepted", "rejected", "edited"]

REVIEW_REJECTED = "review_rejected"
REVIEW_NODE = "review"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS reviews (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pair_id TEXT NOT NULL,
    sample_id TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('accept', 'reject', 'edit', 'undo')),
    decision TEXT CHECK (decision IN ('accepted', 'rejected', 'edited')),
    chosen TEXT,
    rejected TEXT,
    old TEXT NOT NULL,
    by TEXT NOT NULL,
    at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS reviews_of_pair ON reviews (pair_id, id);
"""
_SELECT = (
    "SELECT id, pair_id, sample_id, action, decision, chosen, rejected, old, by, at FROM reviews"
)
_DECISIONS: dict[Action, Decision] = {
    "accept": "accepted",
    "reject": "rejected",
    "edit": "edited",
}


class Review(NamedTuple):
    """One row of the record, and the state of its pair from then on."""

    id: int
    """Rises with every row of a store."""
    pair_id: str
    """Of the pair as it was built; an edit gives the exported pair a new one."""
    sample_id: str
    action: Action
    decision: Decision | None
    """None where everything that was decided is undone."""
    chosen: str | None
    """The edited text; None leaves it as it was built."""
    rejected: str | None
    old: str
    """JSON of decision and both texts before this row."""
    by: str
    at: str
    """UTC, ISO 8601."""

    @property
    def is_edited(self) -> bool:
        """Whether a text of the pair was changed."""
        return self.chosen is not None or self.rejected is not None


class ReviewLosses(NamedTuple):
    """What rejections take from the kept ones."""

    num_pairs: int
    num_samples: int
    """Samples that have no other pair."""


# Deciding -----------------------------------------------------------------------------------


def decide(
    store: RunStore,
    pair: PreferencePair,
    action: Literal["accept", "reject", "edit"],
    *,
    by: str,
    chosen: str | None = None,
    rejected: str | None = None,
) -> Review:
    """Record a decision; durable when the call returns.

    Args:
        store: The run; may be opened to be read, and another process may build in it.
        pair: As it was built.
        action: Accepting or rejecting keeps earlier edits; editing replaces them.
        by: Who decides.
        chosen: For an edit: the new text of that side; None leaves the text as it was built.
        rejected: The same for the other side.

    Returns:
        The pair's state: the new row, or the last one where the decision changes nothing.

    Raises:
        RecordError: The edited texts make no pair.
        StoreError: The store cannot be written.
    """
    chosen, rejected = _changed(chosen, pair.chosen), _changed(rejected, pair.rejected)
    if action == "edit":
        edited_pair(pair, chosen, rejected)
    with _writing(store) as connection:
        last = _last(connection, pair.id)
        if action != "edit" and last is not None:
            chosen, rejected = last.chosen, last.rejected
        decision: Decision | None = _DECISIONS[action]
        if action == "edit" and chosen is None and rejected is None:
            decision = None if last is None or last.decision == "edited" else last.decision
        state = (decision, chosen, rejected)
        before = (None, None, None) if last is None else (last.decision, last.chosen, last.rejected)
        if last is not None and state == before:
            return last
        old = {
            "decision": before[0],
            "chosen": pair.chosen.text if before[1] is None else before[1],
            "rejected": pair.rejected.text if before[2] is None else before[2],
        }
        return _append(connection, pair.id, pair.sample_id, action, state, old, by)


def undo(store: RunStore, pair_id: str, *, by: str) -> Review | None:
    """Go back to what held before the pair's last decision that is not undone.

    Returns:
        The new row; None where there is nothing to undo.
    """
    with _writing(store) as connection:
        standing: list[Review] = []
        rows = _rows(connection, "WHERE pair_id = ? ORDER BY id", (pair_id,))
        for row in rows:
            if row.action == "undo":
                standing.pop()
            else:
                standing.append(row)
        if not standing:
            return None
        undone = standing.pop()
        state = (
            (standing[-1].decision, standing[-1].chosen, standing[-1].rejected)
            if standing
            else (None, None, None)
        )
        old = {
            "decision": undone.decision,
            "chosen": undone.chosen,
            "rejected": undone.rejected,
        }
        return _append(connection, pair_id, undone.sample_id, "undo", state, old, by)


# Reading ------------------------------------------------------------------------------------


def current_reviews(store: RunStore, *, after: int = 0) -> dict[str, Review]:
    """The last row of each pair, by the pair's id.

    Args:
        store: The run.
        after: Only rows with a larger id, for callers who have seen those before.
    """
    return {row.pair_id: row for row in _read(store, "WHERE id > ? ORDER BY id", after)}


def review_history(store: RunStore, pair_id: str) -> list[Review]:
    """All rows of a pair, the oldest first."""
    return _read(store, "WHERE pair_id = ? ORDER BY id", pair_id)


def reviewed(pair: PreferencePair, review: Review | None) -> PreferencePair | DroppedSample:
    """What a pair is after its review: tagged, edited, or dropped as `review_rejected`.

    The lineage's votes name who decided and, for an edited pair, the id that it was built with.
    """
    if review is None or review.decision is None:
        return pair
    vote = {"decision": review.decision, "by": review.by, "at": review.at}
    if review.decision == "rejected":
        return DroppedSample(
            sample_id=pair.sample_id,
            reason=REVIEW_REJECTED,
            node=REVIEW_NODE,
            message=f"{review.by} rejected pair {pair.id} on {review.at}",
            lineage=_voted(pair.lineage, {**vote, "original_id": pair.id}),
        )
    if not review.is_edited:
        lineage = _voted(pair.lineage, vote, tag="accepted")
        return pair.model_copy(update={"lineage": lineage})
    edited = edited_pair(pair, review.chosen, review.rejected)
    lineage = _voted(pair.lineage, {**vote, "original_id": pair.id}, tag="edited")
    return edited.model_copy(update={"lineage": lineage})


def reviewed_lines(store: RunStore, column: Literal["pairs", "dropped"]) -> Iterator[str]:
    """One JSON line per record after review, in the order of the data set."""
    reviews = {
        pair_id: row for pair_id, row in current_reviews(store).items() if row.decision is not None
    }
    if not reviews:
        yield from store.lines(column)
        return
    with (
        store_errors(store.path),
        closing(open_database(store.path, read_only=True)) as connection,
    ):
        for pairs, dropped in connection.execute(
            "SELECT pairs, dropped FROM outcomes ORDER BY position"
        ):
            if column == "dropped" and dropped:
                yield from dropped.split("\n")
            for line in pairs.split("\n") if pairs else ():
                review = reviews.get(json.loads(line)["id"])
                record = review and reviewed(PreferencePair.model_validate_json(line), review)
                if isinstance(record, DroppedSample):
                    if column == "dropped":
                        yield record.model_dump_json()
                elif column == "pairs":
                    yield line if record is None else record.model_dump_json()


def review_losses(store: RunStore) -> ReviewLosses:
    """How many pairs and samples the rejections of this run take away."""
    rejected: dict[str, set[str]] = {}
    for row in current_reviews(store).values():
        if row.decision == "rejected":
            rejected.setdefault(row.sample_id, set()).add(row.pair_id)
    num_pairs = num_samples = 0
    for sample_id, pair_ids in rejected.items():
        found = store.read(
            "SELECT pairs FROM outcomes WHERE sample_id = ? AND pairs != ''", (sample_id,)
        )
        built = {json.loads(line)["id"] for (block,) in found for line in block.split("\n")}
        num_pairs += len(built & pair_ids)
        num_samples += bool(built) and built <= pair_ids
    return ReviewLosses(num_pairs, num_samples)


def _changed(text: str | None, side: Response) -> str | None:
    return None if text == side.text else text


def _voted(lineage: Lineage, vote: dict[str, str], *, tag: str | None = None) -> Lineage:
    tags = lineage.tags if tag is None else {**lineage.tags, "review": tag}
    votes = {**lineage.votes, "review": vote}
    return lineage.model_copy(update={"votes": votes, "tags": tags})


# The table ----------------------------------------------------------------------------------


@contextmanager
def _writing(store: RunStore) -> Iterator[sqlite3.Connection]:
    """One transaction; waits for its turn beside a build's own."""
    with (
        store_errors(store.path),
        closing(open_database(store.path, read_only=False)) as connection,
    ):
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _read(store: RunStore, condition: str, value: object) -> list[Review]:
    """Rows of the table; none where nobody has decided anything yet."""
    if not store.read("SELECT 1 FROM sqlite_master WHERE name = 'reviews'"):
        return []
    return [Review(*row) for row in store.read(f"{_SELECT} {condition}", (value,))]


def _rows(
    connection: sqlite3.Connection, condition: str, values: tuple[object, ...]
) -> list[Review]:
    return [Review(*row) for row in connection.execute(f"{_SELECT} {condition}", values)]


def _last(connection: sqlite3.Connection, pair_id: str) -> Review | None:
    rows = _rows(connection, "WHERE pair_id = ? ORDER BY id DESC LIMIT 1", (pair_id,))
    return rows[0] if rows else None


def _append(
    connection: sqlite3.Connection,
    pair_id: str,
    sample_id: str,
    action: Action,
    state: tuple[Decision | None, str | None, str | None],
    old: dict[str, str | None],
    by: str,
) -> Review:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    values = (pair_id, sample_id, action, *state, json.dumps(old, ensure_ascii=False), by, at)
    cursor = connection.execute(
        "INSERT INTO reviews (pair_id, sample_id, action, decision, chosen, rejected, old, by, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    return Review(int(cursor.lastrowid or 0), *values)
