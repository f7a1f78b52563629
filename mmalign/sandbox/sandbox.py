"""Runs generated code where it can harm nothing, and says what became of it."""

import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, Self

from mmalign.sandbox.attempt import Attempt, Job, attempt
from mmalign.sandbox.config import Isolation, Limits, SandboxConfig
from mmalign.sandbox.levels import open_level
from mmalign.sandbox.pool import Pool
from mmalign.sandbox.remote import RemoteServer
from mmalign.sandbox.results import RunResult
from mmalign.sandbox.selftest import ProbeResult, require_self_test, self_test
from mmalign.sandbox.verdict import read_result

__all__ = ["Sandbox"]

BACKOFF_S = (1.0, 2.0, 4.0)
"""Before each further attempt where the machine failed."""
OVERLOAD = 0.25
"""A run that waited for a core this share of its time limit timed out by the machine's fault."""


class Sandbox:
    """A pool of warm interpreters, each in namespaces of its own and used for one run.

        with Sandbox() as sandbox:
            result = sandbox.run("print(6 * 7)")

    Thread-safe; nothing is started before the first run. Threads beyond `num_workers` wait. Before
    a process scores anything it attacks its sandbox, which takes half a second; one that does not
    hold is refused. With a `url` the runs go to that server, see `remote`.
    """

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self.config = config or SandboxConfig()
        num_workers = self.config.num_workers or os.cpu_count() or 1
        self._slots = _Slots(num_workers)
        self._server = RemoteServer(self.config.url) if self.config.url else None
        self._pool = Pool(
            lambda: open_level(self.config),
            num_spare=2 * num_workers,
            work_bytes=self.config.limits.work_bytes,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill what runs; no process and no file remains. A run under way raises SandboxError."""
        self._pool.close()

    @property
    def level(self) -> Isolation | Literal["remote"]:
        """What holds around each run.

        Raises:
            SandboxError: The demanded level does not hold here.
        """
        if self._server is not None:
            return "remote"
        self._pool.open()
        return self.config.isolation

    def describe(self) -> dict[str, str]:
        """Which means holds each limit, for people and for `mmalign doctor`.

        Raises:
            SandboxError: The demanded level does not hold here.
        """
        if self._server is not None:
            return {"isolation": "remote", "program": self._server.url}
        return {"isolation": self.level, **self._pool.open().means}

    def self_test(self) -> list[ProbeResult]:
        """What a small attack of every known class comes to here, and whether limits bite.

        Raises:
            SandboxError: The demanded level does not hold here.
        """
        return self_test(_Unguarded(self), self.config.isolation)

    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> RunResult:
        """Run a plain program.

        Returns:
            `pass` when it ran to its end or called `sys.exit(0)` (the message tells them apart),
            `error` when it raised, with the traceback in `stderr`; `no_verdict` when its process
            ended otherwise, whatever its exit code.

        Raises:
            SandboxError: The demanded level does not hold here; nothing was run.
        """
        nonce = secrets.token_hex(16)
        job = Job("program", {"nonce": nonce, "program": program}, stdin)
        return self._result([job], nonce, limits)

    def check(
        self,
        candidate: str,
        tests: str,
        entry_point: str | Sequence[str],
        *,
        setup: str = "",
        limits: Limits | None = None,
    ) -> RunResult:
        """Test a program that somebody else's tests shall judge.

        The tests run in one sandbox and the candidate in another; arguments and results travel
        between them as data, so that the candidate sees neither the tests nor the verdict.

        Args:
            candidate: Python that defines the entry points.
            tests: Python that asserts what they return; see `roles.judge`.
            entry_point: The name or names that the tests call.
            setup: Runs in the tests' process before them.
            limits: Of both processes each; the sandbox's own by default.

        Raises:
            SandboxError: The demanded level does not hold here; nothing was run.
        """
        self._require_self_test()
        return self._check(candidate, tests, entry_point, setup=setup, limits=limits)

    def _check(
        self,
        candidate: str,
        tests: str,
        entry_point: str | Sequence[str],
        *,
        setup: str = "",
        limits: Limits | None = None,
    ) -> RunResult:
        nonce = secrets.token_hex(16)
        names = [entry_point] if isinstance(entry_point, str) else list(entry_point)
        judge = {"nonce": nonce, "setup": setup, "tests": tests, "entry_points": names}
        jobs = [
            Job("judge", judge),
            Job("candidate", {"program": candidate, "entry_points": names}),
        ]
        return self._result(jobs, nonce, limits)

    def run_suite(self, program: str, tests: str, *, limits: Limits | None = None) -> RunResult:
        """Run unittest cases in one process with the code that they test.

        Weaker than `check`, for the code could forge the verdict: never for rewards.

        Raises:
            SandboxError: The demanded level does not hold here; nothing was run.
        """
        self._require_self_test()
        nonce = secrets.token_hex(16)
        job = Job("suite", {"nonce": nonce, "program": program, "tests": tests})
        return self._result([job], nonce, limits).model_copy(update={"in_process": True})

    def _require_self_test(self) -> None:
        if self._server is None:
            program = self._pool.open().means["program"]
            require_self_test(_Unguarded(self), self.config.isolation, program)

    def _result(self, jobs: Sequence[Job], nonce: str, limits: Limits | None) -> RunResult:
        limits = limits or self.config.limits
        num_attempts = 0
        for pause in (*BACKOFF_S, None):
            with self._slots.taken(1):
                result, overloaded = self._attempt(jobs, nonce, limits)
            num_attempts += 1
            if result.status != "infra_error" or pause is None:
                break
            time.sleep(pause)
        if result.status == "timeout" and overloaded:
            num_attempts += 1
            with self._slots.taken(self._slots.number):
                result, _ = self._attempt(jobs, nonce, limits)
        return result.model_copy(update={"num_attempts": num_attempts})

    def _attempt(self, jobs: Sequence[Job], nonce: str, limits: Limits) -> tuple[RunResult, bool]:
        """What became of it, and whether it ran out of time because others had the cores."""
        if self._server is not None:
            return self._server.attempt(jobs, nonce, limits), False
        done = attempt(self._pool, jobs, limits)
        result = read_result(done, nonce, limits)
        holding = {"isolation": self.config.isolation}
        return result.model_copy(update=holding), _overloaded(done, limits)


class _Unguarded:
    """A sandbox as its self-test sees it: without the call of the self-test."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.run = sandbox.run
        self.check = sandbox._check


def _overloaded(done: Attempt, limits: Limits) -> bool:
    """Whether a run that used up its time had waited long for a core."""
    waited_s = max(ending.usage.waited_s for ending in done.endings)
    return done.stopped == "wall" and waited_s > OVERLOAD * limits.wall_s


class _Slots:
    """So many runs at once; one that takes all of them runs alone."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._free = number
        self._change = threading.Condition()

    @contextmanager
    def taken(self, number: int) -> Iterator[None]:
        """Wait until so many are free, and hold them."""
        with self._change:
            self._change.wait_for(lambda: self._free >= number)
            self._free -= number
        try:
            yield
        finally:
            with self._change:
                self._free += number
                self._change.notify_all()
