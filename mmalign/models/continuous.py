"""Requests join the batch that is being decoded, as soon as there is room."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from mmalign.errors import ModelCallError
from mmalign.models.batching import Job, Requests
from mmalign.models.decoding import Draw, Drawn
from mmalign.models.running_batch import RunningBatch

__all__ = ["ContinuousBatcher"]

_Jobs = dict[int, Job[Draw, Drawn]]


class ContinuousBatcher:
    """One thread that decodes for any number of threads and event loops.

    Args:
        start: The batch, and the weights for it alone as long as it lasts.
        max_batch_size: Most rows at once.
        max_batch_tokens: Most rows times the longest one's tokens; a longer one goes alone.
        window_s: How long an idle worker waits for the next request.
        name: Of the thread.
    """

    def __init__(
        self,
        start: Callable[[], AbstractContextManager[RunningBatch]],
        *,
        max_batch_size: int,
        max_batch_tokens: int,
        window_s: float,
        name: str,
    ) -> None:
        self._start = start
        self._max_batch_size = max_batch_size
        self._max_batch_tokens = max_batch_tokens
        self.requests: Requests[Draw, Drawn] = Requests(self._work, window_s=window_s, name=name)
        self.submit = self.requests.submit
        self.close = self.requests.close

    def _work(self) -> None:
        waiting: deque[Job[Draw, Drawn]] = deque()
        while self.requests.is_open or waiting:
            if waiting:
                self.requests.wait_until_released()
            else:
                waiting.extend(self.requests.gather(self._max_batch_size))
            if waiting:
                with self._start() as batch:
                    self._run(batch, waiting)

    def _run(self, batch: RunningBatch, waiting: deque[Job[Draw, Drawn]]) -> None:
        """Decode until nobody is left, or until the rest has to wait for who holds the requests."""
        active: _Jobs = {}
        most = self._max_batch_size
        while batch.num_rows or (waiting and not self.requests.is_held):
            waiting.extend(self.requests.arrived())
            joining = self._joining(batch, waiting, active, most)
            active |= {id(job.request): job for job in joining}
            try:
                if joining:
                    batch.add([job.request for job in joining])
                for draw, drawn in batch.step():
                    active.pop(id(draw)).future.set_result(drawn)
            except torch.OutOfMemoryError as error:
                batch.clear()
                most = max(1, len(active) // 2)
                waiting.extendleft(reversed(_to_try_again(active, error)))
                active = {}
                torch.cuda.empty_cache()
            except BaseException as error:  # noqa: BLE001  # raised again where it is awaited
                batch.clear()
                for job in active.values():
                    job.future.set_exception(error)
                active = {}

    def _joining(
        self, batch: RunningBatch, waiting: deque[Job[Draw, Drawn]], active: _Jobs, most: int
    ) -> list[Job[Draw, Drawn]]:
        """Who is next, in the order of arrival."""
        joining: list[Job[Draw, Drawn]] = []
        if self.requests.is_held or not batch.may_be_joined:
            return joining
        longest = max((job.num_tokens for job in active.values()), default=0)
        while waiting and len(active) + len(joining) < most:
            longest = max(longest, waiting[0].num_tokens)
            num_rows = len(active) + len(joining) + 1
            if num_rows > 1 and num_rows * longest > self._max_batch_tokens:
                break
            joining.append(waiting.popleft())
        return joining


def _to_try_again(active: _Jobs, error: torch.OutOfMemoryError) -> Sequence[Job[Draw, Drawn]]:
    """All of them, in smaller company; one that was alone has failed."""
    jobs = list(active.values())
    if len(jobs) > 1:
        return jobs
    draw = jobs[0].request
    failure = ModelCallError(
        f"one request of {len(draw.prompt.input_ids)} prompt tokens "
        f"({draw.prompt.num_media_tokens} of them media) does not fit into the GPU's memory; "
        f"sample fewer or smaller frames"
    )
    failure.__cause__ = error
    jobs[0].future.set_exception(failure)
    return ()
