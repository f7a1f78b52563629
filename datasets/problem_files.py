"""Read the files of code benchmarks, and put their problems to a model."""

import ast
import gzip
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from mmalign.api import ConfigError, RecordError
from mmalign.datasets.benchmark_files import load_list

__all__ = ["Form", "Problem", "chat_prompt", "fenced", "parse", "problems", "require_form"]

Form = Literal["chat", "completion"]
"""chat: the model is asked for a fenced block; completion: it goes on from the prompt's code."""


class Problem(NamedTuple):
    """A line of a benchmark's file."""

    where: str
    """File and place, for messages."""
    task_id: str
    row: Mapping[str, Any]


def problems(
    path: Path, *, task_ids: Sequence[str] = (), num_samples: int | None = None
) -> Iterator[Problem]:
    """The problems of a file, in its order.

    Args:
        path: JSON lines (also `.gz`), a JSON list (`.json`) or Parquet.
        task_ids: Only these; by default all.
        num_samples: Stop after so many.

    Raises:
        ConfigError: There is no such file, or it holds none of a wanted id.
        RecordError: It is not of its format, a line has no task_id, or an id comes twice.
    """
    found: dict[str, Problem] = {}
    for place, row in enumerate(_rows(path)):
        where = f"{path}: index {place}"
        if not isinstance(row, Mapping) or not isinstance(row.get("task_id"), str | int):
            raise RecordError(
                f"{where}: found {str(row)[:60]!r}, expected an object with a task_id"
            )
        task_id = str(row["task_id"])
        if task_id in found:
            raise RecordError(f"{where}: task_id {task_id!r} comes twice; ids are unique")
        found[task_id] = Problem(where, task_id, row)
    if unknown := [task_id for task_id in task_ids if task_id not in found]:
        raise ConfigError(
            f"{path}: has no task_id {', '.join(map(repr, unknown[:5]))}; its {len(found)} "
            f"problems begin with {next(iter(found), 'none')!r}"
        )
    wanted = [problem for key, problem in found.items() if not task_ids or key in task_ids]
    yield from wanted[:num_samples]


def require_form(form: str) -> None:
    """Refuse a form that there is not.

    Raises:
        ConfigError: Names the two that there are.
    """
    if form not in get_args(Form):
        raise ConfigError(f"form is {form!r}, expected one of {', '.join(get_args(Form))}")


def chat_prompt(task: str) -> str:
    """What a chat model is asked: a whole program for a task that is given as code."""
    return (
        "Solve this task with a self-contained Python program. Answer with the program in one "
        f"fenced code block.\n{fenced(task)}"
    )


def parse(where: str, code: str) -> list[ast.stmt]:
    """The top-level statements of a benchmark's own code.

    Raises:
        RecordError: It is not Python; begins with `where`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # published patterns have escapes such as "\\d"
            return ast.parse(code).body
    except (SyntaxError, ValueError) as error:
        raise RecordError(f"{where}: is not Python: {error}") from error


def fenced(code: str) -> str:
    """Code as an answer in Markdown."""
    return f"```python\n{code.strip()}\n```"


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".json":
        return load_list(path)
    try:
        if path.suffix == ".parquet":
            return list(pq.read_table(path).to_pylist())
        content = path.read_bytes()
        lines = gzip.decompress(content) if path.suffix == ".gz" else content
        return [json.loads(line) for line in lines.decode("utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; give the benchmark's own file") from error
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        raise RecordError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error
