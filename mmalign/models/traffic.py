"""How many requests a server gets at once, and when it is left alone for a while."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

__all__ = ["AdaptiveLimit", "CircuitBreaker"]


class AdaptiveLimit:
    """A number of slots that grows by one per full round of answers and is halved by congestion.

    Belongs to one event loop.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = float(maximum)
        self.active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._shrunk_at = -float("inf")
        self._resume_at = -float("inf")

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Wait for a free slot and hold it; gives the time at which it was entered."""
        await self._enter()
        try:
            while (wait_s := self._resume_at - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            yield time.monotonic()
        finally:
            self.active -= 1
            self._wake()

    def grow(self) -> None:
        """An answer came: add one slot per `limit` answers."""
        self.limit = min(float(self.maximum), self.limit + 1.0 / self.limit)
        self._wake()

    def shrink(self, sent_at: float, *, wait_s: float = 0.0) -> None:
        """The server is congested: halve, once for all requests that were under way together.

        Args:
            sent_at: When the request that says so was sent (monotonic clock).
            wait_s: Nothing more is sent for so long.
        """
        now = time.monotonic()
        self._resume_at = max(self._resume_at, now + wait_s)
        if sent_at > self._shrunk_at:
            self._shrunk_at = now
            self.limit = max(1.0, self.limit / 2.0)

    async def _enter(self) -> None:
        if not self._waiting and self.active < int(self.limit):
            self.active += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was given while we were cancelled
                self.active -= 1
                self._wake()
            with suppress(ValueError):
                self._waiting.remove(turn)
            raise

    def _wake(self) -> None:
        while self._waiting and self.active < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.active += 1
                turn.set_result(None)


class CircuitBreaker:
    """Leaves a server alone after some unavailable answers in a row, then tries with one request.

    Holds no object of an event loop.
    """

    def __init__(
        self,
        *,
        failures_to_open: int,
        pause_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures_to_open = failures_to_open
        self.pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """No request but a probe passes."""
        return self._opened_at is not None

    def admit(self) -> float | None:
        """None: send the request and report its end. A number: send nothing for so many seconds."""
        if self._opened_at is None:
            return None
        left_s = self._opened_at + self.pause_s - self._clock()
        if left_s > 0:
            return left_s
        if self._probing:
            return self.pause_s
        self._probing = True
        return None

    def report(self, *, available: bool) -> None:
        """An admitted request ended: was the server there?"""
        self._probing = False
        if available:
            self._failures, self._opened_at = 0, None
            return
        self._failures += 1
        if self._opened_at is not None or self._failures >= self.failures_to_open:
            self._opened_at = self._clock()

    def abandon(self) -> None:
        """An admitted request was cancelled and says nothing about the server."""
        self._probing = False
