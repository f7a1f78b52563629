"""BFCL: questions that are answered by function calls, those of one turn and of Python.

Source: Berkeley Function-Calling Leaderboard v4 (Patil et al., 2025), the files of the package
bfcl-eval. The prompt is mmalign's own. Left out: Java and JavaScript, conversations of several
turns, web search and memory.
"""

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from mmalign.api import ConfigError, Message, RecordError, Sample, text_of

__all__ = ["CATEGORIES", "Category", "read"]

Category = Literal[
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "irrelevance",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_irrelevance",
    "live_relevance",
]
CATEGORIES: tuple[Category, ...] = Category.__args__  # type: ignore[attr-defined]  # of a Literal
_EXPECTS = {"irrelevance": "no_call", "live_irrelevance": "no_call", "live_relevance": "any_call"}
_INSTRUCTION = (
    "These functions are at hand, as JSON:\n{functions}\n\n"
    "Answer with calls alone, in Python's form and in square brackets, every argument by its "
    "name: [name(argument=value), other(argument=value)]. If none of the functions helps, or what "
    "they need is not said, say so in words."
)


def read(
    categories: Sequence[str] = ("simple_python",),
    *,
    root: str | Path | None = None,
    num_samples: int | None = None,
) -> Iterator[Sample]:
    """Questions of some categories, one category after the other.

    Args:
        categories: Names of `CATEGORIES`.
        root: Folder with `BFCL_v4_*.json` and `possible_answer/`; by default the package's.
        num_samples: Stop after so many of each.

    Yields:
        Samples whose answer is a right list of calls, where one is expected. Their metadata holds
        what the metric `bfcl` needs.

    Raises:
        ConfigError: There is no such category or file, or the package is not installed.
        RecordError: A question does not have the form, or has no gold answer.
    """
    folder = _packaged() if root is None else Path(root)
    for category in categories:
        if category not in CATEGORIES:
            known = ", ".join(CATEGORIES)
            raise ConfigError(f"bfcl: found category {category!r}, expected one of {known}")
        expects = _EXPECTS.get(category, "calls")
        name = f"BFCL_v4_{category}.json"
        questions = _rows(folder / name)
        golds = _rows(folder / "possible_answer" / name) if expects == "calls" else []
        gold_of = {row["id"]: row["ground_truth"] for row in golds}
        for row in questions[:num_samples]:
            if expects == "calls" and row["id"] not in gold_of:
                raise RecordError(f"{folder / name}: question {row['id']!r} has no gold answer")
            yield _sample(row, category, expects, gold_of.get(row["id"], []))


def _sample(row: dict[str, Any], category: str, expects: str, gold: list[Any]) -> Sample:
    functions = json.dumps(row["function"], ensure_ascii=False)
    turns = [Message.model_validate(_turn(turn)) for turn in row["question"][0]]
    required = {f["name"]: f["parameters"].get("required", []) for f in row["function"]}
    instruction = text_of(_INSTRUCTION.replace("{functions}", functions), "system")
    return Sample(
        id=f"bfcl-{row['id']}",
        messages=(instruction, *turns),
        answer=f"[{', '.join(_written(call, required) for call in gold)}]" if gold else None,
        metadata={
            "dataset": "bfcl",
            "version": "v4",
            "question_type": category,
            "expects": expects,
            "functions": functions,
            "gold_calls": json.dumps(gold, ensure_ascii=False),
            "prompt_template": "bfcl/python-1",
        },
    )


def _turn(turn: dict[str, str]) -> dict[str, Any]:
    return {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]}


def _written(call: dict[str, dict[str, list[Any]]], required: dict[str, list[str]]) -> str:
    """The call with the first acceptable value of each argument that may not be left out."""
    ((name, arguments),) = call.items()
    given = {
        key: _first(values)
        for key, values in arguments.items()
        if key in required.get(name, ()) or "" not in values
    }
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"


def _first(values: Any) -> Any:
    """The first of a list of acceptable values; inside a dictionary there is a list each."""
    chosen = next((value for value in values if value != ""), "")
    if isinstance(chosen, dict):
        return _record(chosen)
    if isinstance(chosen, list):
        return [_record(item) if isinstance(item, dict) else item for item in chosen]
    return chosen


def _record(gold: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _first(values) if isinstance(values, list) else values
        for key, values in gold.items()
        if not isinstance(values, list) or "" not in values
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; root must hold the data of the package bfcl-eval"
        ) from error
    try:
        return [json.loads(line) for line in lines if line.strip()]
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}: not valid JSON: {error}") from error


def _packaged() -> Path:
    spec = find_spec("bfcl_eval")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "bfcl: the package bfcl-eval is not installed; install it with --no-deps, or give "
            "root: the folder with its data"
        )
    return Path(spec.origin).parent / "data"
