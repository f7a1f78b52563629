"""Instructions that a benchmark asks too: training on them would spoil its numbers."""

import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mmalign.api import ConfigError

__all__ = ["Benchmark", "overlap", "read_benchmark"]

_PROMPTS = ("prompt", "text", "instruction", "complete_prompt", "instruct_prompt")
_NUM_WORDS = 10


class Benchmark(NamedTuple):
    """What a benchmark asks."""

    phrases: frozenset[tuple[str, ...]]
    """Ten words in a row."""
    problems: frozenset[tuple[str, str]]
    """Name of the function and what is asked about it, in plain words."""


@cache
def read_benchmark(path: Path) -> Benchmark:
    """The problems of a JSON lines file, as HumanEval, MBPP and BigCodeBench publish theirs.

    Of each line the values of prompt, text, instruction, complete_prompt and instruct_prompt are
    read, and its entry_point.

    Raises:
        ConfigError: The file cannot be read, or a line holds no problem.
    """
    phrases: set[tuple[str, ...]] = set()
    problems: set[tuple[str, str]] = set()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"agent.exclude: {path}: {error.strerror}; name a file") from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            asked = [row[name] for name in _PROMPTS if isinstance(row.get(name), str)]
        except (json.JSONDecodeError, AttributeError) as error:
            raise ConfigError(f"{path}:{number}: expected a JSON object: {line[:80]!r}") from error
        if not asked:
            raise ConfigError(f"{path}:{number}: has none of {', '.join(_PROMPTS)}")
        for text in asked:
            phrases |= _phrases(text)
            problems.add((str(row.get("entry_point", "")), _plain(text)))
    return Benchmark(frozenset(phrases), frozenset(problems))


def overlap(instruction: str, entry_point: str, benchmark: Benchmark) -> str | None:
    """What the instruction shares with the benchmark, in words; None where it shares nothing."""
    if shared := _phrases(instruction) & benchmark.phrases:
        return f"ten words in a row: {' '.join(min(shared))!r}"
    plain = _plain(instruction)
    for name, asked in benchmark.problems:
        if plain and name == entry_point and (plain in asked or asked in plain):
            return f"the function {name!r} with the same text"
    return None


def _phrases(text: str) -> set[tuple[str, ...]]:
    words = _plain(text).split()
    return {tuple(words[i : i + _NUM_WORDS]) for i in range(len(words) - _NUM_WORDS + 1)}


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
