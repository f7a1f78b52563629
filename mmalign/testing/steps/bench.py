"""A benchmark: its cases, run in alternating order, as rows."""

import gc
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Literal

import psutil
import torch

from mmalign.errors import ConfigError
from mmalign.testing.steps.layouts import Case, LayoutName, Layouts, ObjectiveName, Step, caches_of
from mmalign.testing.steps.measure import (
    Inspection,
    grad_rel_diff,
    inspect_step,
    peak_in_child,
    timed,
)
from mmalign.testing.steps.world import (
    LlavaShape,
    QwenShape,
    World,
    llava_world,
    make_row,
    qwen_world,
)

__all__ = ["BenchName", "Plan", "cases_of", "run_bench", "surroundings"]

BenchName = Literal["pair_step", "group_step", "memory"]

_LAYOUTS: tuple[LayoutName, ...] = ("branch", "plain", "swift", "trl")


@dataclass(frozen=True)
class Plan:
    """What is run."""

    bench: BenchName
    prompts: tuple[int, ...] = (512, 2048, 8192)
    groups: tuple[int, ...] = (2, 4, 8, 16)
    answer_tokens: int = 64
    repeats: int = 5
    """Timed runs of each case, after one that is looked at closely."""
    peak: bool = True
    """On a CPU: measure the peak memory of each case in a process of its own."""
    shape: LlavaShape | QwenShape = field(default_factory=LlavaShape)

    @property
    def on_gpu(self) -> bool:
        """The shape decides."""
        return isinstance(self.shape, QwenShape)


def run_bench(plan: Plan) -> dict[str, Any]:
    """The benchmark as one object: machine, versions, rows.

    The cases of one prompt length and group run in turns, in an order that is turned round each
    time, on one thread; a row's time is the median, its ratios are medians of ratios within a turn.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if isinstance(plan.shape, QwenShape):
            if not torch.cuda.is_available():
                raise ConfigError("--gpu needs a CUDA device, none was found; run without it")
            world = qwen_world(plan.shape, device="cuda")
        else:
            world = llava_world(plan.shape)
        layouts = Layouts(world)
        rows = [
            row
            for cases in cases_of(plan)
            for row in _run_together(plan, layouts, [case for case in cases if _can_run(case)])
        ]
    finally:
        torch.set_num_threads(threads)
    return {**surroundings(world), "model": world.name, "rows": rows}


def cases_of(plan: Plan) -> Iterator[list[Case]]:
    """Groups of cases over the same records: those that are compared with each other."""
    sets: list[tuple[ObjectiveName, int]] = []
    if plan.bench != "group_step":
        sets.append(("dpo", 2))
    if plan.bench != "pair_step":
        sets += [("grpo", size) for size in plan.groups]
    for prompt_tokens in plan.prompts:
        for objective, branches in sets:
            yield [
                Case(
                    bench=plan.bench,
                    objective=objective,
                    layout=layout,
                    caches=caches,
                    prompt_tokens=prompt_tokens,
                    answer_tokens=plan.answer_tokens,
                    branches=branches,
                )
                for layout in _LAYOUTS
                for caches in caches_of(layout, objective)
            ]


def surroundings(world: World) -> dict[str, Any]:
    """Machine, versions and command."""
    names = ("mmalign", "torch", "transformers", "trl", "peft")
    machine = f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    if world.device.type == "cuda":
        machine = f"{torch.cuda.get_device_name()}, {machine}"
    return {
        "machine": machine,
        "load_average": os.getloadavg()[0],
        "command": " ".join(["python", *sys.argv]),
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in names},
    }


def _run_together(plan: Plan, layouts: Layouts, cases: Sequence[Case]) -> list[dict[str, Any]]:
    world = layouts.world
    first = cases[0]
    row = make_row(
        world,
        prompt_tokens=first.prompt_tokens,
        answer_tokens=first.answer_tokens,
        branches=first.branches,
    )
    steps: dict[Case, Step] = {}
    found: dict[Case, Inspection] = {}
    for case in cases:
        reason = _too_large(world, case, found.get(first))
        if reason is None:
            try:
                step = layouts.step(case, row)
                found[case] = inspect_step(world, step, row)
                steps[case] = step
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                reason = "the device's memory does not hold it"
        if reason is not None:
            _say(f"left out: {case}: {reason}")
    times: dict[Case, list[float]] = {case: [] for case in steps}
    for turn in range(plan.repeats):
        gc.collect()
        for case in list(steps) if turn % 2 else list(reversed(steps)):
            times[case].append(timed(world, steps[case]))
    return [_as_row(plan, world, case, found, times) for case in steps]


def _as_row(
    plan: Plan,
    world: World,
    case: Case,
    found: dict[Case, Inspection],
    times: dict[Case, list[float]],
) -> dict[str, Any]:
    seen = found[case]
    plain = found.get(replace(case, layout="plain", caches="none"))
    peak = seen.peak_bytes
    if isinstance(plan.shape, LlavaShape) and plan.peak:
        peak = peak_in_child(case, plan.shape)
    return {
        "bench": case.bench,
        "objective": case.objective,
        "layout": case.layout,
        "caches": case.caches,
        "model": world.name,
        "prompt_tokens": case.prompt_tokens,
        "answer_tokens": case.answer_tokens,
        "branches": case.branches,
        "gpu_s" if plan.on_gpu else "cpu_s": median(times[case]),
        "times_plain": _ratio(times, replace(case, layout="plain", caches="none"), case),
        "times_swift": _ratio(times, replace(case, layout="swift", caches="none"), case),
        "activation_bytes": seen.activation_bytes,
        "peak_bytes": peak,
        "tokens_forwarded": seen.tokens_forwarded,
        "encoder_calls": seen.encoder_calls,
        "logits_alive": seen.logits_alive,
        "loss": seen.loss,
        "grad_rel_diff": None if plain is None else grad_rel_diff(seen.gradients, plain.gradients),
    }


def _ratio(times: dict[Case, list[float]], slow: Case, fast: Case) -> float | None:
    """Median over the turns of how many times faster one case is than another."""
    if slow not in times:
        return None
    return median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def _can_run(case: Case) -> bool:
    if case.layout != "trl" or _version("trl") is not None:
        return True
    _say(f"left out: {case}: trl is not installed")
    return False


def _too_large(world: World, case: Case, smallest: Inspection | None) -> str | None:
    """Why a case would not fit into free memory, guessed from the case that forwards least.

    A device says so itself; a machine that runs out of memory ends some process.
    """
    if world.device.type == "cuda" or smallest is None:
        return None
    forwards = 2 if case.objective == "dpo" else 1
    tokens = case.branches * (case.prompt_tokens + case.answer_tokens) * forwards
    needed = 1.5 * smallest.activation_bytes / smallest.tokens_forwarded * tokens
    free = psutil.virtual_memory().available
    if case.layout == "branch" or needed < free:
        return None
    return f"it needs about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "processor of unknown name")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
