"""Which processes descend from one, and what they have used until now, read from /proc."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Usage", "descendants", "measure"]

TICKS_HZ = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Usage:
    """Of all processes of a tree together."""

    cpu_s: float = 0.0
    """With children that have ended and were waited for."""
    memory_bytes: int = 0
    """Resident; a page that several processes share counts once for each."""
    num_threads: int = 0
    waited_s: float = 0.0
    """Seconds that threads were ready to run and no core was free."""


def measure(root: int, *, shared_once: bool = False) -> Usage:
    """Usage of a process and all that descend from it; what ends meanwhile is passed over.

    Args:
        root: Its number.
        shared_once: Count a shared page once; takes longer.
    """
    usage = Usage()
    for number in descendants(root):
        process = Path("/proc", str(number))
        try:
            fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
            usage.cpu_s += sum(map(int, fields[11:15])) / TICKS_HZ
            usage.num_threads += int(fields[17])
            resident = int(fields[21]) * PAGE_BYTES
            usage.memory_bytes += _proportional(process, resident) if shared_once else resident
            for task in (process / "task").iterdir():
                usage.waited_s += int((task / "schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError):
            continue
    return usage


def descendants(root: int) -> Iterator[int]:
    """A process and, as far as they can be seen, its children and theirs."""
    waiting = [root]
    while waiting:
        number = waiting.pop()
        yield number
        with contextlib.suppress(OSError):
            for task in Path("/proc", str(number), "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())


def _proportional(process: Path, resident: int) -> int:
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except PermissionError:
        return resident
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
