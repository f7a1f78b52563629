"""Memory and processes of a whole sandbox, counted by the kernel: cgroup v2, where it may be used.

Controllers of version 1, or a folder that this user may not write to, are left alone: then the
looks of `attempt.py` and the kernel's limits of each process remain.
"""

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["Cgroup", "find_cgroup"]

CONTROLLERS = {"memory", "pids"}
ROOT = Path("/sys/fs/cgroup")


def find_cgroup(root: Path = ROOT, membership: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The folder in which this user may make groups with the controllers, or None."""
    own = next(
        (
            line.removeprefix("0::/")
            for line in membership.read_text().splitlines()
            if line.startswith("0::/")
        ),
        None,
    )
    if own is None:
        return None
    for folder in (root / own, (root / own).parent):
        try:
            granted = set((folder / "cgroup.subtree_control").read_text().split())
        except OSError:
            continue
        if granted >= CONTROLLERS and os.access(folder, os.W_OK):
            return folder
    return None


class Cgroup:
    """Of one sandbox, from before its job until all of it is gone."""

    def __init__(self, parent: Path) -> None:
        self.folder = parent / f"mmalign-{os.getpid()}-{secrets.token_hex(6)}"
        self.folder.mkdir()

    def limit(self, memory_bytes: int, num_processes: int, members: list[int]) -> None:
        """Set the limits and move the sandbox's processes in."""
        self._write("memory.max", memory_bytes)
        with contextlib.suppress(OSError):  # a kernel without swap accounting has no such file
            self._write("memory.swap.max", 0)
        self._write("pids.max", num_processes)
        for process in members:
            self._write("cgroup.procs", process)

    def killed_for_memory(self) -> bool:
        """Whether the kernel ended a process of it because memory.max was reached."""
        events = (self.folder / "memory.events").read_text().split()
        return int(dict(zip(events[::2], events[1::2], strict=True)).get("oom_kill", "0")) > 0

    def remove(self) -> None:
        """Kill what is left and take the group away."""
        with contextlib.suppress(OSError):
            self._write("cgroup.kill", 1)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _write(self, name: str, value: int) -> None:
        (self.folder / name).write_text(str(value))
