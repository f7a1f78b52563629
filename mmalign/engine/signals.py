"""Ctrl-C and SIGTERM: the first ends a run in order, the second at once."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["stop_signals"]

log = logging.getLogger(__name__)


@contextlib.contextmanager
def stop_signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """Lets the first Ctrl-C or SIGTERM end the run in order and the second one at once."""
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    def first() -> None:
        for number in before:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        interrupt()
        log.warning("stopping; press Ctrl-C again to abort at once, what is committed stays")

    for number in (signal.SIGINT, signal.SIGTERM):
        previous = signal.getsignal(number) or signal.SIG_DFL
        try:
            loop.add_signal_handler(number, first)
        except (ValueError, RuntimeError):  # not the main thread: signals are the caller's
            break
        before[number] = previous
    try:
        yield
    finally:
        for number, previous in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, previous)
