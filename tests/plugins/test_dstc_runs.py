"""Running all against all: what is flaky, what the budget leaves out, what the machine spoils."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from mmalign.agents.dstc import DSTCConfig
from mmalign.agents.dstc_runs import Execution, run_all, unspoilt
from mmalign.api import ExecutionMatrix, Sandbox, SandboxConfig

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(num_workers=2)) as opened:
        yield opened


def run_blocking(sandbox: Sandbox, codes: list[str], tests: list[str], **options: Any) -> Execution:
    settings = {"max_execution_s": 300.0, "max_concurrency": 2, "check_flaky": False, **options}
    limits = DSTCConfig().limits
    return asyncio.run(run_all(codes, tests, "f", sandbox=sandbox, limits=limits, **settings))


COIN = "import random\ndef f(x):\n    return random.random() < 0.5"
COIN_TESTS = [f"assert f({number}) is True" for number in range(40)]


def test_what_passes_only_once_is_marked_and_counts_as_a_failure(sandbox: Sandbox) -> None:
    """A quarter of 40 runs is flaky; that none is has a probability of 1e-5."""
    found = run_blocking(sandbox, [COIN], COIN_TESTS, check_flaky=True)
    assert found.count("flaky") > 0
    assert found.count("pass") + found.count("flaky") + found.count("fail") == 40
    assert found.num_runs == 40 + found.count("pass") + found.count("flaky")
    matrix = ExecutionMatrix(
        codes=(COIN,), tests=tuple(COIN_TESTS), statuses=tuple(map(tuple, found.statuses))
    )
    assert matrix.code_scores == [found.count("pass")]


def test_without_the_check_everything_runs_once(sandbox: Sandbox) -> None:
    found = run_blocking(sandbox, [COIN], COIN_TESTS[:5])
    assert (found.num_runs, found.count("flaky")) == (5, 0)


def test_steady_programs_are_not_flaky(sandbox: Sandbox) -> None:
    found = run_blocking(
        sandbox, ["def f(x):\n    return x"], ["assert f(1) == 1"], check_flaky=True
    )
    assert (found.statuses, found.num_runs) == ([["pass"]], 2)


def test_no_run_begins_once_the_budget_is_spent(sandbox: Sandbox) -> None:
    codes = ["def f(x):\n    return x"] * 2
    found = run_blocking(sandbox, codes, ["assert f(1) == 1"] * 3, max_execution_s=1e-6)
    assert found.count("not_run") >= 3
    assert found.num_runs + found.count("not_run") == 6


@pytest.mark.parametrize(
    ("spoilt", "kept"),
    [
        ([(1, 0), (1, 1)], ([0, 2], [0, 1, 2])),
        ([(0, 1), (2, 1)], ([0, 1, 2], [0, 2])),
        ([(1, 1)], ([0, 1, 2], [0, 2])),
        ([(j, k) for j in range(3) for k in range(3)], ([0, 1, 2], [])),
        ([], ([0, 1, 2], [0, 1, 2])),
    ],
)
def test_the_row_or_column_with_most_infra_errors_goes_first(
    spoilt: list[tuple[int, int]], kept: tuple[list[int], list[int]]
) -> None:
    statuses = [["infra_error" if (j, k) in spoilt else "pass" for k in range(3)] for j in range(3)]
    assert unspoilt(statuses) == kept
