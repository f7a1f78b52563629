"""The command line of the step benchmarks, their tables, and their sections of a page."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign.errors import ConfigError
from mmalign.testing.steps.bench import BenchName, Plan, run_bench
from mmalign.testing.steps.world import LlavaShape, QwenShape

__all__ = ["main", "table", "write_section"]

_LAYOUTS = {
    "branch": "mmalign, branch",
    "plain": "mmalign, plain",
    "swift": "ms-swift's layout",
    "trl": "TRL",
}


def main(bench: BenchName, argv: Sequence[str] | None = None) -> int:
    """Run a benchmark from the command line; exit code 0.

    Args:
        bench: Which one.
        argv: Without the program's name; None takes those of the process.
    """
    options = _parser(bench).parse_args(argv)
    if options.read:
        result = json.loads(options.read.read_text(encoding="utf-8"))
    else:
        result = run_bench(_plan(bench, options))
    if options.write:
        write_section(options.write, bench, result)
    print(json.dumps(result, indent=2) if options.json else table(result))
    return 0


def table(result: Mapping[str, Any]) -> str:
    """A result as Markdown: what ran where, then a line for each row."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"`{result['command']}`",
        "",
        f"{result['machine']}; {versions}. {result['model']}.",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|" + " --- |" * len(_COLUMNS),
    ]
    for row in result["rows"]:
        lines.append("| " + " | ".join(show(row) for show in _COLUMNS.values()) + " |")
    return "\n".join(lines)


def write_section(page: Path, bench: BenchName, result: Mapping[str, Any]) -> None:
    """Put the table of a result between the marks that a page has for it.

    Raises:
        ConfigError: The result is that of another benchmark, or the page has no marks for it.
    """
    found = {row["bench"] for row in result["rows"]}
    if found != {bench}:
        raise ConfigError(f"expected rows of {bench}, found {sorted(found)}; read the other file")
    device = "gpu" if "gpu_s" in result["rows"][0] else "cpu"
    begin, end = (f"<!-- {edge} {bench} {device} -->" for edge in ("begin", "end"))
    text = page.read_text(encoding="utf-8")
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ConfigError(f"{page}: expected the lines {begin!r} and {end!r}; put them in")
    page.write_text(f"{before}{begin}\n{table(result)}\n{end}{after}", encoding="utf-8")


def _parser(bench: BenchName) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"benchmarks/{bench}.py")
    parser.add_argument("--prompts", type=_numbers, help="prompt lengths, as 512,2048,8192")
    if bench != "pair_step":
        parser.add_argument("--groups", type=_numbers, help="answers of a group, as 2,4,8,16")
    parser.add_argument("--answer-tokens", type=int)
    parser.add_argument("--repeats", type=int, help="timed runs of each case")
    parser.add_argument("--no-peak", dest="peak", action="store_false", help="no child processes")
    parser.add_argument("--gpu", action="store_true", help="Qwen2.5-VL-7B's shape, bf16, LoRA")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    parser.add_argument("--read", type=Path, help="take a result of --json instead of running")
    parser.add_argument("--write", type=Path, help="put the table into its section of a page")
    return parser


def _plan(bench: BenchName, options: argparse.Namespace) -> Plan:
    """Command line over defaults; on a GPU, those that end within ten minutes."""
    given = {
        name: value
        for name in ("prompts", "groups", "answer_tokens", "repeats")
        if (value := getattr(options, name, None)) is not None
    }
    defaults: dict[str, Any] = {"repeats": 1} if bench == "memory" else {}
    if options.gpu:
        defaults = {"groups": (2, 8), "repeats": 1 if bench == "memory" else 3}
    shape: LlavaShape | QwenShape = QwenShape() if options.gpu else LlavaShape()
    return Plan(bench=bench, peak=options.peak, shape=shape, **defaults | given)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected positive numbers, as 512,2048")
    return numbers


def _times(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row[name] is None else f"{row[name]:.2f}x"


def _megabytes(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row[name] is None else f"{row[name] / 1e6:.0f}"


_COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "prompt": lambda row: str(row["prompt_tokens"]),
    "answers": lambda row: f"{row['branches']} x {row['answer_tokens']}",
    "loss of": lambda row: row["objective"],
    "layout": lambda row: _LAYOUTS[row["layout"]],
    "caches": lambda row: row["caches"],
    "s": lambda row: f"{row['gpu_s'] if 'gpu_s' in row else row['cpu_s']:.3f}",
    "over plain": _times("times_plain"),
    "over ms-swift's": _times("times_swift"),
    "activations, MB": _megabytes("activation_bytes"),
    "peak, MB": _megabytes("peak_bytes"),
    "tokens": lambda row: str(row["tokens_forwarded"]),
    "encoder runs": lambda row: f"{row['encoder_calls']:g}",
    "logits": lambda row: f"{row['logits_alive']:.2g}",
    "loss": lambda row: f"{row['loss']:.6f}",
    "gradient": lambda row: "" if row["grad_rel_diff"] is None else f"{row['grad_rel_diff']:.1e}",
}
