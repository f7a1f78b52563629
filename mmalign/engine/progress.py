"""Tells how a run goes: a live line on a terminal, a log line now and then elsewhere."""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

__all__ = ["Counts", "report_progress"]

log = logging.getLogger(__name__)

REFRESH_S = 0.25
LOG_INTERVAL_S = 30.0


@dataclass
class Counts:
    """How far this start of a run is."""

    num_samples: int | None
    """In the data set, where it is known."""
    num_before: int
    """Committed by earlier starts."""
    done: Counter[str] = field(default_factory=Counter)
    """Committed by this start, by status."""
    num_waiting: int = 0
    """Samples whose agent has asked a person."""
    cost: float = 0.0
    num_tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def num_done(self) -> int:
        """Committed by this start."""
        return self.done.total()

    def line(self) -> str:
        """Samples, rate, time left, what came of them, what it cost."""
        elapsed_s = max(time.monotonic() - self.started, 1e-9)
        rate = self.num_done / elapsed_s
        committed = self.num_before + self.num_done
        total = "?" if self.num_samples is None else f"{self.num_samples:,}"
        parts = [f"{committed:,}/{total} samples", f"{rate:.1f}/s"]
        if self.num_samples is not None and rate > 0:
            parts.append(f"{_clock((self.num_samples - committed) / rate)} left")
        parts.append(f"{self.done['kept']:,} kept, {self.done['dropped']:,} dropped")
        if self.done["failed"]:
            parts.append(f"{self.done['failed']:,} failed")
        if self.num_waiting:
            parts.append(f"{self.num_waiting:,} wait for a person")
        parts.append(f"{self.num_tokens:,} tokens, cost {self.cost:.4f}")
        return " | ".join(parts)


async def report_progress(counts: Counts, console: Console) -> None:
    """Show the counts until cancelled; one last line then."""
    if not console.is_terminal:
        await _log_now_and_then(counts)
        return
    with Live(Text(counts.line()), console=console, auto_refresh=False) as live:
        try:
            while True:
                await asyncio.sleep(REFRESH_S)
                live.update(Text(counts.line()), refresh=True)
        finally:
            live.update(Text(counts.line()), refresh=True)


async def _log_now_and_then(counts: Counts) -> None:
    try:
        while True:
            await asyncio.sleep(LOG_INTERVAL_S)
            log.info(counts.line())
    finally:
        log.info(counts.line())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
