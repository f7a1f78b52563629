"""Questions that agents put to people, and the answers: who said what, and when.

An agent declares that it may ask with `interrupts: ClassVar[bool] = True` in its context; its nodes
then call LangGraph's `interrupt(payload)`, or its graph is compiled with `interrupt_before` or
`interrupt_after`. A question is a row of the run's store until its sample is done; answers are
only ever added, by a connection of their own, so that people can answer while the build runs.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mmalign.engine.database import open_database, store_errors
from mmalign.engine.store import RunStore
from mmalign.errors import ConfigError
from mmalign.records import Sample

__all__ = [
    "TABLES",
    "PersonAnswer",
    "WaitingSample",
    "answer",
    "answers_given",
    "tally_of_waiting",
    "waiting",
]

TABLES = (
    """
CREATE TABLE IF NOT EXISTS questions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    sample_id TEXT NOT NULL UNIQUE,
    sample TEXT NOT NULL,
    node TEXT NOT NULL,
    payload TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    walk BLOB NOT NULL,
    taken INTEGER
)
    """,
    """
CREATE TABLE IF NOT EXISTS person_answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    question INTEGER NOT NULL,
    sample_id TEXT NOT NULL,
    node TEXT NOT NULL,
    payload TEXT NOT NULL,
    value TEXT NOT NULL,
    by TEXT NOT NULL,
    at TEXT NOT NULL
)
    """,
    "CREATE INDEX IF NOT EXISTS answers_of_question ON person_answers (question, id)",
    """
CREATE VIEW IF NOT EXISTS waiting AS
    SELECT q.*, (SELECT max(id) FROM person_answers WHERE question = q.id) AS answer
    FROM questions q
    WHERE taken IS NULL AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.sample_id = q.sample_id)
    """,
)
"""`taken` is the answer that the run has gone on with."""


class PersonAnswer(NamedTuple):
    """One answer, as it was given."""

    sample_id: str
    node: str
    payload: Any
    value: Any
    by: str
    at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class WaitingSample:
    """A sample whose agent has asked a person and has not gone on yet."""

    sample_id: str
    sample: Sample
    node: str
    payload: Any
    """What the agent passed to `interrupt`, a JSON value; None at a stop before or after a node."""
    asked_at: str
    """UTC, ISO 8601."""
    answer: PersonAnswer | None
    """The last one; the next build goes on with it."""


def waiting(store: RunStore) -> list[WaitingSample]:
    """The samples that wait for a person, answered ones included, in the data set's order."""
    if not _has_tables(store):
        return []
    rows = store.read(
        "SELECT q.sample_id, q.sample, q.node, q.payload, q.asked_at, a.value, a.by, a.at "
        "FROM waiting q LEFT JOIN person_answers a ON a.id = q.answer ORDER BY q.position"
    )
    found = []
    for sample_id, sample, node, payload_text, asked_at, value, by, at in rows:
        payload = json.loads(payload_text)
        given = value and PersonAnswer(sample_id, node, payload, json.loads(value), by, at)
        found.append(
            WaitingSample(
                sample_id, Sample.model_validate_json(sample), node, payload, asked_at, given
            )
        )
    return found


def answer(store: RunStore, sample_id: str, value: object, *, by: str) -> None:
    """Answer a sample's question; durable when the call returns.

    Until the run goes on, a second answer replaces the first; both stay on record.

    Args:
        store: The run; may be opened to be read, and another process may build in it.
        sample_id: The sample that waits.
        value: Any JSON value; `interrupt` returns it inside the agent. At a stop before or after
            a node it only lets the agent go on.
        by: Who answers.

    Raises:
        ConfigError: No such sample waits, nobody is named, or the value is no JSON.
        StoreError: The store cannot be written.
    """
    if not by.strip():
        raise ConfigError("an answer needs the name of who gives it; `by` is empty")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the answer to {sample_id!r} is no JSON value: {error}") from error
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with (
        store_errors(store.path),
        closing(open_database(store.path, read_only=False)) as connection,
    ):
        for statement in TABLES:
            connection.execute(statement)
        connection.execute("BEGIN IMMEDIATE")
        num_added = connection.execute(
            "INSERT INTO person_answers (question, sample_id, node, payload, value, by, at) "
            "SELECT id, sample_id, node, payload, ?, ?, ? FROM waiting WHERE sample_id = ?",
            (text, by, now, sample_id),
        ).rowcount
        connection.execute("COMMIT")
        if not num_added:
            raise ConfigError(_not_waiting(connection, store, sample_id))


def answers_given(store: RunStore) -> list[PersonAnswer]:
    """Every answer that was ever given, replaced ones included, the oldest first."""
    if not _has_tables(store):
        return []
    rows = store.read("SELECT sample_id, node, payload, value, by, at FROM person_answers")
    return [
        PersonAnswer(sample_id, node, json.loads(payload), json.loads(value), by, at)
        for sample_id, node, payload, value, by, at in rows
    ]


def tally_of_waiting(store: RunStore) -> list[tuple[str, int]]:
    """Waiting samples by node, the most frequent first."""
    if not _has_tables(store):
        return []
    return store.read(
        "SELECT node, count(*) FROM waiting GROUP BY node ORDER BY count(*) DESC, node"
    )


def _has_tables(store: RunStore) -> bool:
    """Whether an agent of this run may ask; other stores hold no questions at all."""
    return bool(store.read("SELECT 1 FROM sqlite_master WHERE name = 'questions'"))


def _not_waiting(connection: sqlite3.Connection, store: RunStore, sample_id: str) -> str:
    row = connection.execute(
        "SELECT status FROM outcomes WHERE sample_id = ? UNION ALL "
        "SELECT 'already going on with an answer' FROM questions WHERE sample_id = ?",
        (sample_id, sample_id),
    ).fetchone()
    known = connection.execute("SELECT sample_id FROM waiting ORDER BY position LIMIT 6").fetchall()
    names = ", ".join(repr(name) for (name,) in known[:5]) + (", ..." if len(known) > 5 else "")
    return (
        f"{store.folder}: sample {sample_id!r} does not wait for a person, it is "
        f"{row[0] if row else 'not known to have asked'}; waiting are: {names or 'none'}"
    )
