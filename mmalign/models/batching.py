"""Gather requests that come at the same time and hand them to one worker."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Batcher", "Job", "Requests"]

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Job(NamedTuple, Generic[Request, Answer]):
    """A request and where its answer goes."""

    request: Request
    num_tokens: int
    future: "Future[Answer]"


class Requests(Generic[Request, Answer]):
    """What any number of threads and event loops ask of one thread.

    Args:
        work: Runs in that thread until there are no more requests.
        window_s: How long an idle worker waits for company after each request.
        name: Of the thread.
    """

    def __init__(self, work: Callable[[], None], *, window_s: float, name: str) -> None:
        self._work = work
        self._window_s = window_s
        self._name = name
        self._queue: queue.SimpleQueue[Job[Request, Answer] | None] = queue.SimpleQueue()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._released = threading.Condition()
        self._num_holders = 0
        self.is_open = True
        """Whether there may be more; only the worker asks."""

    def submit(self, request: Request, *, num_tokens: int) -> "Future[Answer]":
        """The answer to come.

        Raises:
            RuntimeError: The model is closed.
        """
        future: Future[Answer] = Future()
        with self._start:
            if self._closed:
                raise RuntimeError("the model is closed; load it again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._queue.put(Job(request, num_tokens, future))
        return future

    def close(self) -> None:
        """Let what was submitted be answered, then end the worker."""
        with self._start:
            self._closed = True
            thread = self._thread
            self._queue.put(None)
        if thread is not None:
            thread.join()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hand nothing out meanwhile."""
        with self._released:
            self._num_holders += 1
        try:
            yield
        finally:
            with self._released:
                self._num_holders -= 1
                self._released.notify_all()

    @property
    def is_held(self) -> bool:
        """Whether nothing is handed out now."""
        return self._num_holders > 0

    def gather(self, limit: int) -> list[Job[Request, Answer]]:
        """Wait for a request and its company, at most so many, while nobody holds them."""
        jobs: list[Job[Request, Answer]] = []
        deadline: float | None = None
        while len(jobs) < limit:
            try:
                wait_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                job = self._queue.get(timeout=wait_s)
            except queue.Empty:
                break
            if job is None:
                self.is_open = False
                break
            if job.future.set_running_or_notify_cancel():
                jobs.append(job)
            deadline = time.monotonic() + self._window_s
        self.wait_until_released()
        return jobs

    def arrived(self) -> list[Job[Request, Answer]]:
        """What has come meanwhile."""
        jobs: list[Job[Request, Answer]] = []
        while self.is_open and not self.is_held:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self.is_open = False
            elif job.future.set_running_or_notify_cancel():
                jobs.append(job)
        return jobs

    def wait_until_released(self) -> None:
        """Return as soon as nobody holds the requests."""
        with self._released:
            self._released.wait_for(lambda: not self.is_held)


class Batcher(Generic[Request, Answer]):
    """One thread that answers requests batch by batch.

    What arrives while a batch is computed waits together for the next one, so the batch size
    follows the load.

    Args:
        answer: Computes a batch, in the worker's thread.
        max_batch_size: Most requests of a batch.
        max_batch_tokens: Most requests times the longest one's tokens; a longer one goes alone.
        window_s: How long an idle worker waits for the next request.
        name: Of the thread.
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
        self._answer = answer
        self._max_batch_size = max_batch_size
        self._max_batch_tokens = max_batch_tokens
        self.requests: Requests[Request, Answer] = Requests(
            self._work, window_s=window_s, name=name
        )
        self.submit = self.requests.submit
        self.close = self.requests.close

    def _work(self) -> None:
        while self.requests.is_open:
            jobs = self.requests.gather(self._max_batch_size)
            # neighbours in length waste little padding
            jobs.sort(key=lambda job: job.num_tokens)
            while jobs:
                size = self._batch_size(jobs)
                batch, jobs = jobs[:size], jobs[size:]
                self._run(batch)

    def _batch_size(self, jobs: Sequence[Job[Request, Answer]]) -> int:
        size = 1
        while (
            size < min(len(jobs), self._max_batch_size)
            and (size + 1) * jobs[size].num_tokens <= self._max_batch_tokens
        ):
            size += 1
        return size

    def _run(self, jobs: Sequence[Job[Request, Answer]]) -> None:
        try:
            answers = self._answer([job.request for job in jobs])
            for job, answer in zip(jobs, answers, strict=True):
                job.future.set_result(answer)
        except BaseException as error:  # noqa: BLE001  # raised again where the answer is awaited
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
