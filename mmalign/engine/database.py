"""The SQLite file of a run: schema, one writing process, errors that say what to do."""

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from mmalign.errors import StoreError

__all__ = ["FolderLock", "open_database", "store_errors"]

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcomes (
    position INTEGER PRIMARY KEY,
    sample_id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('kept', 'dropped', 'failed')),
    reason TEXT,
    node TEXT,
    num_pairs INTEGER NOT NULL,
    pairs TEXT NOT NULL,
    dropped TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    draw INTEGER NOT NULL,
    sample_id TEXT NOT NULL,
    node TEXT NOT NULL,
    model TEXT NOT NULL,
    kind TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost REAL NOT NULL,
    answer TEXT NOT NULL,
    UNIQUE (key, draw)
);
"""


def open_database(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection whose commits outlive a kill and a power cut.

    Raises:
        StoreError: The file cannot be opened, is no store, or is of a newer schema.
    """
    with store_errors(path):
        if read_only:
            return _connect_reader(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            _require_schema(connection, path)
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection


def _connect_reader(path: Path) -> sqlite3.Connection:
    """A reader; a folder that nobody can write to needs SQLite's word that nobody does."""
    still = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    writable = os.access(path.parent, os.W_OK, effective_ids=True)
    uri = f"{path.absolute().as_uri()}?mode=ro{'' if writable else still}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM outcomes WHERE position < 0")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _require_schema(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found not in (0, SCHEMA_VERSION):
        raise StoreError(
            f"{path}: schema version {found}, this mmalign reads {SCHEMA_VERSION}; "
            f"use the version that wrote it, or another folder"
        )


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite and the system say about a file into a `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {_advice(error, path)}") from error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StoreError(f"{path}: {_READ_ONLY.format(error.strerror)}") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"{path}: {_FULL.format(error.strerror, path.parent)}") from error
        raise StoreError(f"{path}: {error.strerror or error}; give a folder that works") from error


_FULL = (
    "the disk is full ({}); free some space under {} and run the same command again: what is "
    "committed stays, answered calls are not repeated"
)
_READ_ONLY = "cannot be written ({}); give an output folder that you may write to"


def _advice(error: sqlite3.Error, path: Path) -> str:
    text = str(error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return _FULL.format(text, path.parent)
    if code is not None and code & 0xFF == sqlite3.SQLITE_IOERR:
        return (
            f"the disk refused a write ({text}); look at its space, quota and health, then run "
            f"the same command again: what is committed stays"
        )
    if code is not None and code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return _READ_ONLY.format(text)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return f"is no intact store of a run ({text}); give another folder"
    return text


class FolderLock:
    """Keeps a second process out of a run folder; the system frees it when the first one dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "store.lock"
        with store_errors(self._path):
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._file, 32, 0).decode() or "unknown"
            os.close(self._file)
            raise StoreError(
                f"{folder}: process {owner} is running in this folder; wait for it, stop it, or "
                f"give another folder"
            ) from error
        with contextlib.suppress(OSError):  # a full disk must not hide behind the lock's note
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._file)
