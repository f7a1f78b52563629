"""What the engine costs a sample on top of bare LangGraph.

    python benchmarks/engine_overhead.py --json

A five-node agent asks an instant model once in every node. `bare` invokes the compiled graph with
the same concurrency and keeps nothing; `engine` runs it through run_agent: every answer in the
ledger before its node goes on, every outcome committed, each commit flushed to the disk. Both run
in one process, in turns and in changing order; the figure is the median of the differences.

Wall time is the target's unit. CPU time of the process (all threads) is given beside it, for
on a machine that is busy with other work wall time measures the other work.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from mmalign.engine import EngineConfig, Manifest, RunStore, run_agent
from mmalign.records import Sample
from mmalign.testing.agents import FiveNodeContext, build_graph, numbered_samples
from mmalign.testing.models import ScriptedModel

TARGET_MS = 1.5
GRAPH = build_graph()


class Timing(NamedTuple):
    """Milliseconds a sample."""

    wall_ms: float
    cpu_ms: float


async def run_bare(samples: Sequence[Sample], *, max_concurrency: int) -> None:
    """Nothing but LangGraph, the same number of samples at once."""
    model = ScriptedModel()
    left: Iterator[Sample] = iter(samples)

    async def work() -> None:
        for sample in left:
            context = FiveNodeContext(policy=model, sample_id=sample.id)
            await GRAPH.ainvoke({"sample": sample}, context=context, output_keys="records")

    await asyncio.gather(*(work() for _ in range(max_concurrency)))


async def run_engine(samples: Sequence[Sample], *, max_concurrency: int, folder: Path) -> None:
    """The same through the engine, with a new store."""
    with tempfile.TemporaryDirectory(dir=folder) as run, RunStore(Path(run)) as store:
        funnel = await run_agent(
            GRAPH,
            samples,
            store=store,
            manifest=Manifest(agent="mmalign.testing.agents:build_graph"),
            policy=ScriptedModel(),
            engine=EngineConfig(max_concurrency=max_concurrency),
        )
        assert (funnel.num_in, funnel.num_calls) == (len(samples), 5 * len(samples))


def timed(run: Callable[[], Any], num_samples: int) -> Timing:
    """How long a coroutine takes."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(run())
    return Timing(
        (time.perf_counter() - wall) * 1e3 / num_samples,
        (time.process_time() - cpu) * 1e3 / num_samples,
    )


def flush_ms(folder: Path) -> float:
    """Median time of one flush to the disk that holds the store."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(20):
            file.write(b"x" * 4096)
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def measure(*, num_samples: int, num_repeats: int, max_concurrency: int, folder: Path) -> Any:
    """Paired runs, the order of each pair turned round."""
    samples = numbered_samples(num_samples)
    arms: dict[str, Callable[[], Any]] = {
        "bare": lambda: run_bare(samples, max_concurrency=max_concurrency),
        "engine": lambda: run_engine(samples, max_concurrency=max_concurrency, folder=folder),
    }
    for arm in arms.values():
        timed(arm, num_samples)
    timings: dict[str, list[Timing]] = {name: [] for name in arms}
    for repeat in range(num_repeats):
        for name in ("bare", "engine") if repeat % 2 else ("engine", "bare"):
            timings[name].append(timed(arms[name], num_samples))
    pairs = list(zip(timings["engine"], timings["bare"], strict=True))
    return {
        "overhead_wall_ms": statistics.median(e.wall_ms - b.wall_ms for e, b in pairs),
        "overhead_cpu_ms": statistics.median(e.cpu_ms - b.cpu_ms for e, b in pairs),
        "target_ms": TARGET_MS,
        "bare_wall_ms": statistics.median(b.wall_ms for _, b in pairs),
        "engine_wall_ms": statistics.median(e.wall_ms for e, _ in pairs),
        "bare_cpu_ms": statistics.median(b.cpu_ms for _, b in pairs),
        "engine_cpu_ms": statistics.median(e.cpu_ms for e, _ in pairs),
        "overheads_wall_ms": [e.wall_ms - b.wall_ms for e, b in pairs],
        "num_samples": num_samples,
        "num_repeats": num_repeats,
        "max_concurrency": max_concurrency,
        "model_calls_per_sample": 5,
        "disk_flush_ms": flush_ms(folder),
    }


def surroundings() -> dict[str, Any]:
    """Machine and versions."""
    packages = {name: version(name) for name in ("mmalign", "langgraph", "pydantic")}
    return {
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "load_average": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            **packages,
        },
    }


def main() -> int:
    """Exit code 0; with --check 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--num-samples", type=int, default=2000)
    parser.add_argument("--num-repeats", type=int, default=5)
    parser.add_argument("--max-concurrency", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="fail above the target")
    options = vars(parser.parse_args())
    as_json, check = options.pop("json"), options.pop("check")
    before = surroundings()
    result = {**before, **measure(**options)}
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for key, value in result.items():
            print(f"{key}: {value:.3f}" if isinstance(value, float) else f"{key}: {value}")
    return int(check and result["overhead_wall_ms"] > TARGET_MS)


if __name__ == "__main__":
    sys.exit(main())
