"""Gather requests that come at the same time and hand them to one worker, batch by batch."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Batcher"]

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class _Job(NamedTuple, Generic[Request, Answer]):
    request: Request
    num_tokens: int
    future: "Future[Answer]"


class Batcher(Generic[Request, Answer]):
    """One thread that answers requests of any number of threads and event loops in batches.

    What arrives while a batch is computed waits together for the next one, so the batch size
    follows the load; an idle worker waits `window_s` for company after each request.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Request]], Sequence[Answer]],
        *,
        max_batch_size: int,
        max_batch_tokens: int,
        window_s: float,
        name: str,
    ) -> None:
        """Start nothing yet.

        Args:
            answer: Computes a batch, in the worker's thread.
            max_batch_size: Most requests of a batch.
            max_batch_tokens: Most requests times the longest one's tokens; a longer one goes alone.
            window_s: How long to wait for the next request.
            name: Of the thread.
        """
        self._answer = answer
        self._max_batch_size = max_batch_size
        self._max_batch_tokens = max_batch_tokens
        self._window_s = window_s
        self._name = name
        self._queue: queue.SimpleQueue[_Job[Request, Answer] | None] = queue.SimpleQueue()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, request: Request, *, num_tokens: int) -> "Future[Answer]":
        """The answer to come.

        Raises:
            RuntimeError: The batcher is closed.
        """
        future: Future[Answer] = Future()
        with self._start:
            if self._closed:
                raise RuntimeError("the model is closed; load it again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._queue.put(_Job(request, num_tokens, future))
        return future

    def close(self) -> None:
        """Answer what was submitted, then end the worker."""
        with self._start:
            self._closed = True
            thread = self._thread
            self._queue.put(None)
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            jobs, is_open = self._gather()
            # neighbours in length waste little padding
            jobs.sort(key=lambda job: job.num_tokens)
            while jobs:
                size = self._batch_size(jobs)
                batch, jobs = jobs[:size], jobs[size:]
                self._run([job for job in batch if job.future.set_running_or_notify_cancel()])

    def _gather(self) -> tuple[list[_Job[Request, Answer]], bool]:
        jobs: list[_Job[Request, Answer]] = []
        deadline: float | None = None
        while len(jobs) < self._max_batch_size:
            try:
                wait_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                job = self._queue.get(timeout=wait_s)
            except queue.Empty:
                break
            if job is None:
                return jobs, False
            jobs.append(job)
            deadline = time.monotonic() + self._window_s
        return jobs, True

    def _batch_size(self, jobs: Sequence[_Job[Request, Answer]]) -> int:
        size = 1
        while (
            size < min(len(jobs), self._max_batch_size)
            and (size + 1) * jobs[size].num_tokens <= self._max_batch_tokens
        ):
            size += 1
        return size

    def _run(self, jobs: Sequence[_Job[Request, Answer]]) -> None:
        if not jobs:
            return
        try:
            answers = self._answer([job.request for job in jobs])
            for job, answer in zip(jobs, answers, strict=True):
                job.future.set_result(answer)
        except BaseException as error:  # noqa: BLE001  # raised again where the answer is awaited
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
