"""Every program against every test, within a budget; what the machine spoilt is left out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mmalign.api import Limits, RunResult, Sandbox

__all__ = ["Execution", "run_all", "unspoilt"]

Statuses = list[list[str]]


class Execution(NamedTuple):
    """What came of the runs."""

    statuses: Statuses
    """[J][K]: the sandbox's words; `flaky` for what passed once and then did not, `not_run` for
    what the budget left out."""
    num_runs: int
    seconds: float
    """By the clock, of all runs together."""

    def count(self, status: str) -> int:
        """Cells with a status."""
        return sum(row.count(status) for row in self.statuses)


@dataclass
class _Runner:
    sandbox: Sandbox
    entry_point: str
    limits: Limits
    max_execution_s: float
    gate: asyncio.Semaphore
    check_flaky: bool
    num_runs: int = 0
    seconds: float = 0.0

    async def status(self, code: str, test: str) -> str:
        async with self.gate:
            if self.seconds >= self.max_execution_s:
                return "not_run"
            first = await self.run(code, test)
            if not (first.passed and self.check_flaky):
                return first.status
            again = await self.run(code, test)
            return again.status if again.status in ("pass", "infra_error") else "flaky"

    async def run(self, code: str, test: str) -> RunResult:
        result = await asyncio.to_thread(
            self.sandbox.check, code, test, self.entry_point, limits=self.limits
        )
        self.num_runs += 1
        self.seconds += result.seconds
        return result


async def run_all(
    codes: Sequence[str],
    tests: Sequence[str],
    entry_point: str,
    *,
    sandbox: Sandbox,
    limits: Limits,
    max_execution_s: float,
    max_concurrency: int,
    check_flaky: bool,
) -> Execution:
    """Run each of J programs with each of K tests.

    Args:
        codes: [J] programs that define the entry point.
        tests: [K] tests that call it.
        entry_point: The function's name.
        sandbox: Runs them, and tries again what the machine spoilt.
        limits: Of one run.
        max_execution_s: No run is begun once all of them together have taken so long.
        max_concurrency: Runs under way at once.
        check_flaky: Run what passes a second time. What fails stays failed, whatever a second run
            would say, so it is not run again.
    """
    gate = asyncio.Semaphore(max_concurrency)
    runner = _Runner(sandbox, entry_point, limits, max_execution_s, gate, check_flaky)
    rows = await asyncio.gather(
        *(asyncio.gather(*(runner.status(code, test) for test in tests)) for code in codes)
    )
    return Execution([list(row) for row in rows], runner.num_runs, runner.seconds)


def unspoilt(statuses: Statuses) -> tuple[list[int], list[int]]:
    """The rows and columns that stay once no cell is left that the machine spoilt.

    The row or column with most such cells goes first; of a row and a column with equally many the
    column, which is a test.
    """
    codes, tests = list(range(len(statuses))), list(range(len(statuses[0])))
    while codes and tests:
        in_code = {j: sum(statuses[j][k] == "infra_error" for k in tests) for j in codes}
        in_test = {k: sum(statuses[j][k] == "infra_error" for j in codes) for k in tests}
        code, test = max(codes, key=in_code.__getitem__), max(tests, key=in_test.__getitem__)
        if not in_test[test]:
            break
        if in_code[code] > in_test[test]:
            codes.remove(code)
        else:
            tests.remove(test)
    return codes, tests
