"""BigCodeBench: functions that use many libraries, tested by unittest suites.

Source: BigCodeBench (Zhuo et al., 2024), JSON lines or Parquet as released. The chat prompt of the
mode `complete` is mmalign's own.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mmalign.api import ConfigError, RecordError, Sample, user
from mmalign.datasets.benchmark_files import require_text
from mmalign.datasets.problem_files import Form, chat_prompt, fenced, problems, require_form

__all__ = ["STOPS", "read"]

STOPS = (
    "\ndef ",
    "\nclass ",
    "\nimport ",
    "\nfrom ",
    "\nassert ",
    "\nif __name__",
    "\nprint(",
    "\n```",
)
"""Where a completion ends that goes on from the prompt."""

_FIELDS = (
    "complete_prompt",
    "instruct_prompt",
    "canonical_solution",
    "code_prompt",
    "test",
    "entry_point",
)


def read(
    path: str | Path,
    mode: Literal["complete", "instruct"] = "complete",
    *,
    form: Form = "chat",
    calibrated: bool = True,
    libs: Sequence[str] | None = None,
    task_ids: Sequence[str] = (),
    num_samples: int | None = None,
) -> Iterator[Sample]:
    """All problems, in the file's order.

    The recipe's `sandbox.packages` names the distributions that their programs may import.

    Args:
        path: A file of the published form.
        mode: `complete` shows signature and docstring, `instruct` asks in words.
        form: `chat`, or `completion` of the mode `complete`.
        calibrated: Put the imports and an empty function of the task before the answer, so that
            an import which the answer takes for granted is no failure.
        libs: Only tasks that need no other libraries; by default all.
        task_ids: Only these, as `BigCodeBench/0`.
        num_samples: Stop after so many.

    Yields:
        Samples with `mode: suite`: tests share one process with the program.

    Raises:
        ConfigError: There is no such file, mode, form or id.
        RecordError: A problem does not have the published form, or an id comes twice.
    """
    require_form(form)
    if mode not in ("complete", "instruct") or (mode, form) == ("instruct", "completion"):
        raise ConfigError(
            f"bigcodebench: found mode {mode!r} with form {form!r}; expected complete with chat or "
            f"completion, or instruct with chat"
        )
    num_read = 0
    for where, task_id, row in problems(Path(path), task_ids=task_ids):
        item = require_text(where, row, _FIELDS)
        needed = _libs(where, row.get("libs"))
        if libs is not None and not set(needed) <= set(libs):
            continue
        if num_read == num_samples:
            return
        num_read += 1
        yield Sample(
            id=task_id,
            messages=(user(_prompt(item, mode, form)),),
            answer=_answer(item, form),
            tests=(item["test"],),
            metadata={
                "dataset": "bigcodebench",
                "version": "calibrated" if calibrated and form == "chat" else "as_answered",
                "entry_point": item["entry_point"],
                "mode": "suite",
                "answer_form": form,
                "prompt_code": _before(item, form, calibrated=calibrated),
                "libs": needed,
                "stops": STOPS,
                "prompt_template": f"bigcodebench/{mode}-{form}-1",
            },
        )


def _prompt(item: Mapping[str, Any], mode: str, form: Form) -> str:
    if mode == "instruct":
        return str(item["instruct_prompt"])
    task = str(item["complete_prompt"])
    return chat_prompt(task) if form == "chat" else task


def _answer(item: Mapping[str, Any], form: Form) -> str:
    solution = str(item["canonical_solution"])
    return fenced(item["complete_prompt"] + solution) if form == "chat" else solution


def _before(item: Mapping[str, Any], form: Form, *, calibrated: bool) -> str:
    if form == "completion":
        return str(item["complete_prompt"])
    return f"{item['code_prompt']}\n    pass\n" if calibrated else ""


def _libs(where: str, value: object) -> list[str]:
    """A list, or its text as Python writes it."""
    try:
        found = ast.literal_eval(value) if isinstance(value, str) else value
    except (SyntaxError, ValueError):
        found = value
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise RecordError(f"{where}: field 'libs' is {value!r}, expected a list of names")
    return found
