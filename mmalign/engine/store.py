"""The run store: which samples are done, with what, and every model answer that was paid for."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from mmalign.engine.commits import GroupCommitter
from mmalign.engine.database import FolderLock, open_database, store_errors
from mmalign.engine.manifest import Manifest, current_versions, manifest_diff
from mmalign.errors import StoreError
from mmalign.records import DroppedSample, PreferencePair

__all__ = ["Answer", "Outcome", "RunStore", "StoredAnswer", "Totals"]

log = logging.getLogger(__name__)

INSERT_OUTCOME = (
    "INSERT INTO outcomes (position, sample_id, status, reason, node, num_pairs, pairs, dropped) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
INSERT_ANSWER = (
    "INSERT INTO ledger (key, draw, sample_id, node, model, kind, prompt_tokens, "
    "completion_tokens, cost, answer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SELECT_ANSWERS = (
    "SELECT draw, answer, prompt_tokens + completion_tokens, cost FROM ledger WHERE key = ?"
)


@dataclass(frozen=True)
class Outcome:
    """What one sample became."""

    position: int
    """Place in the data set, from 0; exports stand in this order."""
    sample_id: str
    pairs: tuple[PreferencePair, ...]
    dropped: tuple[DroppedSample, ...]

    @property
    def status(self) -> Literal["kept", "dropped", "failed"]:
        """`kept` with at least one pair, else what its first dropped record says."""
        return "kept" if self.pairs else self.dropped[0].kind


class Answer(NamedTuple):
    """A row of the ledger: one draw of one request."""

    key: bytes
    draw: int
    sample_id: str
    node: str
    model: str
    kind: Literal["generate", "score"]
    prompt_tokens: int
    completion_tokens: int
    cost: float
    answer: str
    """JSON of the completion, or of the scored tokens."""


class StoredAnswer(NamedTuple):
    """What a replay needs of an answer."""

    draw: int
    answer: str
    num_tokens: int
    cost: float


class Totals(NamedTuple):
    """What all answers of a run cost."""

    num_calls: int
    num_tokens: int
    cost: float


class RunStore:
    """One SQLite file in a run folder, written by one process.

    Args:
        folder: The run folder; made where it is missing.
        read_only: Only look: no lock, works beside a running build.

    Raises:
        StoreError: The folder cannot be written, another process runs in it, or its file is no
            store.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self.path = folder / "store.sqlite"
        self._lock: FolderLock | None = None
        self._commits: GroupCommitter | None = None
        if read_only:
            if not self.path.exists():
                raise StoreError(f"{self.path}: no such store; build the run first")
            self._reader = open_database(self.path, read_only=True)
            return
        with store_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(folder)
        try:
            self._writer = open_database(self.path, read_only=False)
            self._reader = open_database(self.path, read_only=True)
        except BaseException:
            self._lock.release()
            raise
        self._commits = GroupCommitter(self._writer, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let other processes in."""
        if self._commits is not None:
            self._commits.close()
        self._reader.close()
        if self._lock is not None:
            self._writer.close()
            self._lock.release()
            self._lock = None

    # Which run this is

    @property
    def manifest(self) -> Manifest | None:
        """What the folder's run is; None in a new folder."""
        rows = self.read("SELECT value FROM meta WHERE key = 'manifest'")
        return Manifest.model_validate_json(rows[0][0]) if rows else None

    def claim(self, manifest: Manifest, *, rebuild: bool = False) -> None:
        """Make this the folder of a run, or make sure that it is.

        Args:
            manifest: The run that is about to write.
            rebuild: Where another run's records are found, delete them and keep the paid
                answers, so that only requests that changed are asked again.

        Raises:
            StoreError: The folder belongs to another run, with a list of what differs.
        """
        found = self.manifest
        given = manifest.model_copy(update={"versions": current_versions()})
        if found is not None and found.run_id == given.run_id:
            _tell_version_changes(self.folder, found, given)
            return
        if found is not None and not rebuild:
            lines = "\n  ".join(manifest_diff(found, given))
            raise StoreError(
                f"{self.folder}: holds another run ({self.num_committed} samples):\n  {lines}\n"
                f"Undo these changes to resume it, give another folder, or rebuild: that deletes "
                f"its records and keeps the answers that were paid for"
            )
        value = given.model_dump_json()
        with store_errors(self.path), self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.execute("DELETE FROM outcomes")
            self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('manifest', ?)", (value,))

    # Writing

    def commit_outcome(self, outcome: Outcome) -> asyncio.Future[None]:
        """Store what a sample became, once; the future is done when it is durable.

        Raises:
            StoreError: The store failed before; or, through the future, now.
        """
        first = None if outcome.pairs else outcome.dropped[0]
        row = (
            outcome.position,
            outcome.sample_id,
            outcome.status,
            first.reason if first else None,
            first.node if first else None,
            len(outcome.pairs),
            "\n".join(pair.model_dump_json() for pair in outcome.pairs),
            "\n".join(drop.model_dump_json() for drop in outcome.dropped),
        )
        return self._committer.submit(INSERT_OUTCOME, (row,))

    def commit_answers(self, answers: Sequence[Answer]) -> asyncio.Future[None]:
        """Store paid answers; the future is done when they are durable."""
        return self._committer.submit(INSERT_ANSWER, answers)

    def write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> asyncio.Future[None]:
        """Queue rows of another module's table; the future is done when they are durable."""
        return self._committer.submit(statement, rows)

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        """Run a statement at once, before a run begins: one that makes another module's table."""
        with store_errors(self.path):
            self._writer.execute(statement, values)

    def forget_failed(self) -> int:
        """Delete the outcomes of failed samples, so that they are tried again; their number."""
        with store_errors(self.path):
            return self._writer.execute("DELETE FROM outcomes WHERE status = 'failed'").rowcount

    async def drain(self) -> None:
        """Wait until everything queued is durable or has failed."""
        await self._committer.drain()

    # Reading

    def answers(self, key: bytes) -> list[StoredAnswer]:
        """The draws of a request that were answered."""
        return [StoredAnswer(*row) for row in self.read(SELECT_ANSWERS, (key,))]

    def committed(self) -> dict[str, int]:
        """Position of every committed sample, by its id."""
        return dict(self.read("SELECT sample_id, position FROM outcomes"))

    @property
    def num_committed(self) -> int:
        """How many samples are done."""
        return int(self.read("SELECT count(*) FROM outcomes")[0][0])

    def totals(self) -> Totals:
        """What was paid so far, answers of unfinished samples included."""
        rows = self.read(
            "SELECT count(*), coalesce(sum(prompt_tokens + completion_tokens), 0), "
            "coalesce(sum(cost), 0.0) FROM ledger"
        )
        return Totals(*rows[0])

    def tally(self) -> list[tuple[str, str | None, str | None, int, int]]:
        """Samples and pairs by (status, reason, node), the most frequent first."""
        return self.read(
            "SELECT status, reason, node, count(*), sum(num_pairs) FROM outcomes "
            "GROUP BY status, reason, node ORDER BY count(*) DESC, status, reason, node"
        )

    def pairs(self) -> Iterator[PreferencePair]:
        """All pairs, in the order of the data set."""
        for line in self.lines("pairs"):
            yield PreferencePair.model_validate_json(line)

    def dropped(self) -> Iterator[DroppedSample]:
        """All dropped samples, in the order of the data set."""
        for line in self.lines("dropped"):
            yield DroppedSample.model_validate_json(line)

    def lines(self, column: Literal["pairs", "dropped"]) -> Iterator[str]:
        """One JSON line per record, in the order of the data set."""
        query = f"SELECT {column} FROM outcomes WHERE {column} != '' ORDER BY position"  # noqa: S608  # one of two names
        with store_errors(self.path):
            for (block,) in self._reader.execute(query):
                yield from block.split("\n")

    @property
    def _committer(self) -> GroupCommitter:
        if self._commits is None:
            raise StoreError(f"{self.path}: was opened to be read; open it without read_only")
        return self._commits

    def read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """The rows of a query, for modules that keep tables of their own here."""
        with store_errors(self.path):
            return self._reader.execute(query, values).fetchall()


def _tell_version_changes(folder: Path, found: Manifest, given: Manifest) -> None:
    changes = [
        f"{name} {found.versions.get(name)} -> {new}"
        for name, new in given.versions.items()
        if found.versions.get(name) != new
    ]
    if changes:
        log.warning("%s: resumes with other versions: %s", folder, ", ".join(changes))
