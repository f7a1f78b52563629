"""Warm workers, started ahead; each does one job and is gone."""

import os
import threading
from collections import deque
from collections.abc import Callable

from mmalign.errors import SandboxError
from mmalign.sandbox.levels import Opened
from mmalign.sandbox.process import Worker

__all__ = ["Pool"]


class Pool:
    """Workers of one level; thread-safe, and empty again in a forked child."""

    def __init__(
        self, open_level: Callable[[], Opened], *, num_spare: int, work_bytes: int
    ) -> None:
        """Nothing is started before the first worker is taken.

        Args:
            open_level: What makes the isolation, or raises SandboxError.
            num_spare: Workers kept ready.
            work_bytes: Size of their work folders.
        """
        self._open_level = open_level
        self._num_spare = num_spare
        self._work_bytes = work_bytes
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._spares: deque[Worker] = deque()
        self._closed = False
        self._process_id = os.getpid()

    def open(self) -> Opened:
        """The level, started and seen to hold."""
        self._leave_parent()
        with self._lock:
            if self._closed:
                raise SandboxError("this sandbox is closed. Make another one")
            if self._opened is not None and not self._opened.spawner.is_alive():
                self._drop()
            if self._opened is None:
                self._opened = self._open_level()
                self._refill(self._opened)
            return self._opened

    def take(self, work_bytes: int) -> Worker:
        """A worker of one's own; `give_back` it. It may have died: `wait_ready` says so."""
        opened = self.open()
        if work_bytes != self._work_bytes:
            return opened.spawner.start(opened.launch(work_bytes))
        with self._lock:
            worker = self._spares.popleft() if self._spares else None
            self._refill(opened)
        return worker or opened.spawner.start(opened.launch(work_bytes))

    def _refill(self, opened: Opened) -> None:
        while not self._closed and len(self._spares) < self._num_spare:
            self._spares.append(opened.spawner.start(opened.launch(self._work_bytes)))

    def close(self) -> None:
        """Kill what is left; no process and no file remains."""
        self._leave_parent()
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        if self._opened is not None:
            self._opened.spawner.close()
        self._opened = None
        for worker in self._spares:
            worker.close()
        self._spares.clear()

    def _leave_parent(self) -> None:
        """In a forked child what runs is the parent's, and the lock may never be released."""
        if os.getpid() == self._process_id:
            return
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        if self._opened is not None:
            self._opened.spawner.forget()
        self._opened = None
        for worker in self._spares:
            worker.close()
        self._spares.clear()
