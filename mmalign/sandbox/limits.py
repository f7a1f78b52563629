"""Which limits the kernel sees to, and how often the rest is looked at."""

import math

from mmalign.sandbox.config import Limits

__all__ = ["WATCH_S", "kernel_limits"]

WATCH_S = 0.1
"""Seconds between two looks at memory, time and processes of all of a run together."""


def kernel_limits(limits: Limits, *, counts_processes: bool) -> dict[str, int]:
    """The limits of each process by the names of `resource`, hard and soft alike.

    Args:
        limits: Of the run.
        counts_processes: Whether RLIMIT_NPROC counts the processes of one sandbox, as in a user
            namespace of its own; if not, it would count all that the user runs.
    """
    found = {
        "RLIMIT_CPU": math.ceil(limits.cpu_s),
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.num_files,
        "RLIMIT_CORE": 0,
    }
    if counts_processes:
        found["RLIMIT_NPROC"] = limits.num_processes + 1  # the sandbox's own first process counts
    return found
