"""Many concurrent writers, one transaction: rows that arrive together share a disk flush."""

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mmalign.engine.database import store_errors
from mmalign.errors import StoreError

__all__ = ["GroupCommitter"]

GATHER_S = 0.002  # costs a model's answer nothing, and saves most flushes where answers come fast


class _Write(NamedTuple):
    statement: str
    rows: Sequence[tuple[Any, ...]]
    done: asyncio.Future[None]


class GroupCommitter:
    """Writes rows in a thread, all that came within two milliseconds in one transaction.

    After the first failure nothing more is written: the run ends and is resumed.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mmalign-store")
        self._waiting: list[_Write] = []
        self._running: asyncio.Future[None] | None = None
        self._failure: StoreError | None = None

    def submit(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> asyncio.Future[None]:
        """Queue rows; the future is done once they are durable.

        Raises:
            StoreError: An earlier write failed.
        """
        if self._failure is not None:
            raise self._failure
        loop = asyncio.get_running_loop()
        write = _Write(statement, rows, loop.create_future())
        self._waiting.append(write)
        if len(self._waiting) == 1 and self._running is None:
            loop.call_later(GATHER_S, self._flush)
        return write.done

    async def drain(self) -> None:
        """Wait until nothing is queued or being written."""
        while self._waiting or self._running is not None:
            if self._running is None:
                self._flush()
            assert self._running is not None
            await asyncio.wait([self._running])
            await asyncio.sleep(0)

    def close(self) -> None:
        """Finish what is being written and end the thread."""
        self._thread.shutdown(wait=True)

    def _flush(self) -> None:
        if self._running is not None or not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._thread, self._write, batch)
        self._running.add_done_callback(lambda future: self._finish(batch, future))

    def _finish(self, batch: list[_Write], written: asyncio.Future[None]) -> None:
        self._running = None
        failure = written.exception()
        if isinstance(failure, StoreError):
            self._failure = failure
            batch, self._waiting = batch + self._waiting, []
        for write in batch:
            if write.done.cancelled():
                continue
            if failure is None:
                write.done.set_result(None)
            else:
                write.done.set_exception(failure)
                write.done.exception()  # a sample that was cancelled meanwhile does not ask
        if self._waiting:
            asyncio.get_running_loop().call_later(GATHER_S, self._flush)

    def _write(self, batch: list[_Write]) -> None:
        grouped: dict[str, list[tuple[Any, ...]]] = {}
        for write in batch:
            grouped.setdefault(write.statement, []).extend(write.rows)
        with store_errors(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for statement, rows in grouped.items():
                    self._connection.executemany(statement, rows)
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
