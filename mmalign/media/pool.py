"""Decode under a time limit: worker processes that are killed when it is over.

A decoder that hangs holds its thread for good, so it gets a process. Workers are started by
the first call, kept, and replaced when they die.
"""

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO

from mmalign import errors
from mmalign.errors import DecodeTimeoutError, MediaCorruptError, MediaError, MmalignError
from mmalign.media.worker import Answer, EndOfStream, read_message, write_message

__all__ = ["DecodePool", "default_pool"]

_START = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "getattr(importlib.import_module(sys.argv[2]), sys.argv[3])()"
)
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 1.0
_PIPE_BYTES = 1 << 20
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})


class DecodePool:
    """A few decoding processes, shared by any number of threads.

    Args:
        size: Processes at most; each is started when a call finds none idle.
        entry: `module:function` that serves requests (see `mmalign.media.worker.serve`).
    """

    def __init__(self, size: int = 2, *, entry: str = "mmalign.media.worker:main") -> None:
        self._entry = entry
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(size):
            self._slots.put(None)
        self._size = size
        self._num_started = 0

    @property
    def num_started(self) -> int:
        """Processes started so far, replacements included."""
        return self._num_started

    def call(self, name: str, request: Mapping[str, Any], *, what: str, limit_s: float) -> Answer:
        """The answer of one of the workers.

        Args:
            name: Handler to call.
            request: Its arguments, as JSON values.
            what: File name, for messages.
            limit_s: Seconds from the moment that a worker is free; then it is killed.

        Raises:
            DecodeTimeoutError: No answer within the limit.
            MediaError: What the handler found, or that the decoder crashed.
        """
        worker = self._slots.get()
        try:
            if worker is None or not worker.is_alive:
                worker = self._start(worker)
            try:
                return worker.call(name, request, what=what, limit_s=limit_s)
            except (BrokenPipeError, _KilledError):  # mostly while it was idle: once more
                worker = self._start(worker)
                return worker.call(name, request, what=what, limit_s=limit_s)
        finally:
            self._slots.put(worker)

    def close(self) -> None:
        """End all workers; a later call starts new ones. Waits for calls that run."""
        for _ in range(self._size):
            worker = self._slots.get()
            if worker is not None:
                worker.stop()
        for _ in range(self._size):
            self._slots.put(None)

    def kill(self) -> None:
        """End all workers at once, busy ones too; for the interpreter's exit."""
        with contextlib.suppress(queue.Empty):
            while True:
                worker = self._slots.get_nowait()
                if worker is not None:
                    worker.stop()

    def _start(self, old: "_Worker | None") -> "_Worker":
        if old is not None:
            old.stop()
        self._num_started += 1
        return _Worker(self._entry)


class _KilledError(MediaError):
    """Something outside killed the decoder."""


class _Worker:
    """One process and the pipes to it; used by one thread at a time."""

    def __init__(self, entry: str) -> None:
        module, _, function = entry.partition(":")
        self._owner = os.getpid()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop()
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and code
            [sys.executable, "-c", _START, json.dumps(sys.path), module, function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            # one process decodes one clip: pools of threads in libraries only slow its start
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        _widen(self._answers)
        try:
            self._receive(what=f"the decode worker {entry}", limit_s=_START_LIMIT_S)
        except BaseException:
            self.stop()
            raise

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def _answers(self) -> BinaryIO:
        assert self._process.stdout is not None
        return self._process.stdout  # type: ignore[return-value]  # unbuffered: a raw file

    def call(self, name: str, request: Mapping[str, Any], *, what: str, limit_s: float) -> Answer:
        assert self._process.stdin is not None
        write_message(self._process.stdin, {"call": name, **request}, None)  # type: ignore[arg-type]  # raw file
        return self._receive(what=what, limit_s=limit_s)

    def stop(self) -> None:
        """End the process: by closing its input, then by force."""
        if os.getpid() != self._owner:
            return  # inherited by fork: not ours to end
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._complaints.close()

    def _receive(self, *, what: str, limit_s: float) -> Answer:
        timed_out = threading.Event()

        def kill() -> None:
            timed_out.set()
            self._process.kill()

        timer = threading.Timer(limit_s, kill)
        timer.daemon = True
        timer.start()
        try:
            values, array = read_message(self._answers)
        except EndOfStream:
            raise self._obituary(what, limit_s if timed_out.is_set() else None) from None
        finally:
            timer.cancel()
        if "error" in values:
            raise _error_class(values["error"])(values["message"])
        return Answer(values, array)  # type: ignore[arg-type]  # None only for the greeting

    def _obituary(self, what: str, limit_s: float | None) -> Exception:
        code = self._process.wait()
        if limit_s is not None:
            return DecodeTimeoutError(
                f"{what}: found no answer of the decoder after {limit_s:g} s and killed it, "
                f"expected frames within that time; raise time_limit_s, give another decoder, "
                f"or drop the sample"
            )
        self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, self._complaints.tell() - 4000))
        last_words = self._complaints.read().decode(errors="replace").strip()
        if -code in _CRASHES:
            return MediaCorruptError(
                f"{what}: the decoder crashed ({signal.Signals(-code).name}), expected frames; "
                f"try another decoder, fetch the file again or drop the sample. {last_words[-300:]}"
            )
        if code < 0:
            return _KilledError(
                f"{what}: the decoder was killed by signal {-code}, expected frames; the machine "
                f"may be out of memory: ask for fewer or smaller frames"
            )
        return RuntimeError(f"{what}: the decode worker failed:\n{last_words}")


def _widen(pipe: BinaryIO) -> None:
    """Let a megabyte wait in the pipe where the system allows it: fewer switches per clip."""
    try:
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        return


def _error_class(name: str) -> type[MmalignError]:
    found: type[MmalignError] = getattr(errors, name)
    return found


_lock = threading.Lock()
_pools: list[DecodePool] = []
"""The pool of this process; pools of the processes that it was forked from lie in `_inherited`."""
_inherited: list[DecodePool] = []


def default_pool() -> DecodePool:
    """The pool that decoding uses unless it is given another; made by the first call."""
    with _lock:
        if not _pools:
            _pools.append(DecodePool(min(2, os.cpu_count() or 1)))
        return _pools[0]


def _end_at_exit() -> None:
    for pool in _pools:
        pool.kill()


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _inherited.extend(_pools)
    _pools.clear()


atexit.register(_end_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
