"""One attempt at a run: jobs for one or two workers, their output, their limits, their end."""

import contextlib
import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mmalign.sandbox.cgroup import Cgroup
from mmalign.sandbox.config import Limits
from mmalign.sandbox.limits import WATCH_S, kernel_limits
from mmalign.sandbox.output import BoundedOutput
from mmalign.sandbox.pool import Pool
from mmalign.sandbox.process import Worker, memory_file
from mmalign.sandbox.role_code import role_code
from mmalign.sandbox.usage import Usage, descendants, measure

__all__ = ["Attempt", "Ending", "Job", "attempt"]

FLOOD = 8
"""A stream this many times over its limit ends the run."""
MAX_VERDICT_BYTES = 1 << 16
DEATH_S = 10.0
"""A kill that took longer would mean a kernel in trouble."""


@dataclass(frozen=True)
class Job:
    """What one worker shall do."""

    role: str
    values: dict[str, Any]
    """The role's own; see `roles`. Plain types: what goes through JSON unchanged."""
    stdin: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", json.loads(json.dumps(self.values)))  # numpy.str_ ...


@dataclass
class Ending:
    """Of one worker."""

    stdout: BoundedOutput
    stderr: BoundedOutput
    exit_code: int | None = None
    """None: it was never told, the machine's fault. 128 + n: killed by signal n."""
    cpu_s: float = 0.0
    usage: Usage = field(default_factory=Usage)
    """As it was last seen."""


@dataclass
class Attempt:
    """What happened."""

    endings: list[Ending]
    out_of_memory: bool = False
    """Whether the kernel ended a process because the cgroup's memory was used up."""
    taken: bool = False
    """Whether every worker had begun; if not, the machine is at fault."""
    stopped: str = ""
    """Which limit the host ended it for: wall, cpu, memory, processes, output."""
    verdict: bytes = b""
    seconds: float = 0.0
    complaint: str = ""
    """Of a sandbox that did not start."""


def attempt(pool: Pool, jobs: Sequence[Job], limits: Limits) -> Attempt:
    """Run the jobs side by side; the first one speaks the verdict and its end ends all.

    Two jobs are connected by a socket; only the first holds the verdict's pipe.
    """
    workers: list[Worker] = []
    with contextlib.ExitStack() as stack:
        for _ in jobs:
            worker = pool.take(limits.work_bytes)
            stack.callback(worker.close)
            stack.callback(worker.kill)
            workers.append(worker)
        verdict_fd, theirs = os.pipe()
        stack.callback(os.close, verdict_fd)
        endings = [
            Ending(BoundedOutput(limits.output_bytes), BoundedOutput(limits.output_bytes))
            for _ in jobs
        ]
        result = Attempt(endings)
        means = pool.open()
        groups = [] if means.cgroup is None else [Cgroup(means.cgroup) for _ in jobs]
        for group in groups:
            stack.callback(group.remove)
        rlimits = kernel_limits(limits, counts_processes=means.counts_processes)
        result.taken = _begin(workers, jobs, rlimits, theirs, partial(_enclose, groups, limits))
        if not result.taken:
            result.complaint = " ".join(worker.complaint() for worker in workers)
            return result
        _Watch(workers, verdict_fd, limits, result).run()
        result.out_of_memory = any(group.killed_for_memory() for group in groups)
        return result


def _enclose(groups: Sequence[Cgroup], limits: Limits, number: int, root: int) -> None:
    """Put a worker that waits for its job into its cgroup, if there are any."""
    if groups:
        members = list(descendants(root))
        groups[number].limit(limits.memory_bytes, limits.num_processes + len(members), members)


def _begin(
    workers: Sequence[Worker],
    jobs: Sequence[Job],
    rlimits: dict[str, int],
    verdict: int,
    enclose: Callable[[int, int], None],
) -> bool:
    peers = socket.socketpair() if len(jobs) == 2 else ()
    held = [verdict, *(peer.detach() for peer in peers)]
    try:
        for number, (worker, job) in enumerate(zip(workers, jobs, strict=True)):
            channels = {"verdict": verdict} if number == 0 else {}
            if peers:
                channels["peer"] = held[1 + number]
            if job.stdin:
                channels["stdin"] = memory_file(job.stdin.encode("utf-8", "surrogatepass"))
                held.append(channels["stdin"])
            values = {"modules": role_code(job.role), "limits": rlimits, **job.values}
            if not worker.wait_ready():
                return False
            assert worker.root is not None
            enclose(number, worker.root)
            if not worker.give(values, channels):
                return False
        return True
    finally:
        for fd in held:
            os.close(fd)


class _Watch:
    """Reads everything until the first worker has ended, then until all are gone."""

    def __init__(
        self, workers: Sequence[Worker], verdict_fd: int, limits: Limits, result: Attempt
    ) -> None:
        self.workers, self.limits, self.result = workers, limits, result
        self.verdict_fd = verdict_fd
        self.selector = selectors.DefaultSelector()
        self.open: set[int] = set()
        self.reports = {worker.report_fd: b"" for worker in workers}
        self._register(verdict_fd, self._read_verdict)
        for worker, ending in zip(workers, result.endings, strict=True):
            self._register(worker.stdout_fd, self._reader(ending.stdout))
            self._register(worker.stderr_fd, self._reader(ending.stderr))
            self._register(worker.report_fd, self._report_reader(worker, ending))

    def run(self) -> None:
        """Fill the result in."""
        started = time.monotonic()
        deadline = started + self.limits.wall_s
        next_look = started + WATCH_S
        first = self.workers[0].report_fd
        while first in self.open and not self.result.stopped:
            now = time.monotonic()
            if now >= deadline:
                self.result.stopped = "wall"
            elif now >= next_look:
                self._look()
                next_look = now + WATCH_S
            self._read(min(deadline, next_look) - now)
        self.result.seconds = time.monotonic() - started
        for worker in self.workers:
            worker.kill()
        deadline = time.monotonic() + DEATH_S
        while self.open and time.monotonic() < deadline:
            self._read(deadline - time.monotonic())
        self.selector.close()

    def _register(self, fd: int, read: Any) -> None:
        self.selector.register(fd, selectors.EVENT_READ, read)
        self.open.add(fd)

    def _read(self, timeout: float) -> None:
        for key, _ in self.selector.select(max(0.0, timeout)):
            data = os.read(key.fd, 1 << 16)
            if data:
                key.data(data)
            else:
                self.selector.unregister(key.fd)
                self.open.discard(key.fd)

    def _read_verdict(self, data: bytes) -> None:
        self.result.verdict += data[: MAX_VERDICT_BYTES - len(self.result.verdict)]

    def _reader(self, output: BoundedOutput) -> Any:
        def read(data: bytes) -> None:
            output.add(data)
            if output.num_bytes > FLOOD * self.limits.output_bytes:
                self.result.stopped = self.result.stopped or "output"

        return read

    def _report_reader(self, worker: Worker, ending: Ending) -> Any:
        def read(data: bytes) -> None:
            *lines, self.reports[worker.report_fd] = (self.reports[worker.report_fd] + data).split(
                b"\n"
            )
            for line in lines:
                for name, value in json.loads(line).items():
                    setattr(ending, name, value)

        return read

    def _look(self) -> None:
        """End what a limit of single processes cannot see."""
        for worker, ending in zip(self.workers, self.result.endings, strict=True):
            assert worker.root is not None
            ending.usage = usage = measure(worker.root)
            if usage.cpu_s > self.limits.cpu_s:
                self.result.stopped = "cpu"
            elif usage.num_threads > self.limits.num_processes + 2:
                self.result.stopped = "processes"
            elif usage.memory_bytes > self.limits.memory_bytes:
                exact = measure(worker.root, shared_once=True)
                if exact.memory_bytes > self.limits.memory_bytes:
                    self.result.stopped = "memory"
