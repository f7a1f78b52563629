"""Reads the world of programs: instructions with hidden tests, and the base model's lessons."""

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Template as Text
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.random import Generator

from mmalign.api import Sample, user
from mmalign.datasets.programs.tasks import (
    CAREFUL,
    Errors,
    Split,
    Task,
    assert_line,
    call,
    draw_arguments,
    draw_task,
    hidden_tests,
    templates_of,
)
from mmalign.datasets.shapes.clips import require_known

__all__ = ["SPLITS", "SplitPlan", "fingerprint", "read", "read_lessons", "tasks_of"]

Lesson = Literal["program", "test", "program_and_test", "calls"]

_PROMPTS = Path(__file__).parent
_LESSON_ODDS: dict[Lesson, float] = {
    "program": 0.3,
    "test": 0.25,
    "program_and_test": 0.1,
    "calls": 0.35,
}
_MOST_CALLS: dict[Lesson, int] = {"program": 0, "test": 2, "program_and_test": 2, "calls": 6}
_LESSON_SEED = 301


class SplitPlan(NamedTuple):
    """How the tasks of a split are drawn."""

    seed: int
    tasks_per_template: int


SPLITS: dict[Split, SplitPlan] = {
    "lessons": SplitPlan(302, 1),
    "train": SplitPlan(303, 1),
    "validation": SplitPlan(304, 1),
    "test": SplitPlan(305, 2),
}


def read(split: Split, *, num_samples: int | None = None) -> Iterator[Sample]:
    """Instructions of a split, in an order that mixes the families.

    Args:
        split: No template, numbers and words aside, is in two of them.
        num_samples: Stop after so many.

    Yields:
        Samples whose answer is a right program in a fenced block and whose tests are hidden ones,
        an assert each. Their metadata holds `dataset`, `split`, `template`, `question_type` (its
        family), `entry_point` and `signature`.

    Raises:
        ConfigError: There is no such split.
    """
    require_known("programs", "split", split, SPLITS)
    for number, (task, tests) in enumerate(zip(tasks_of(split), _tests_of(split), strict=True)):
        if number == num_samples:
            return
        yield Sample(
            id=f"programs-{split}-{task.template.name}-{number}",
            messages=(user(task.instruction),),
            answer=_fenced(task.program()),
            tests=tests,
            metadata=_metadata(split, task),
        )


def read_lessons(
    num_samples: int, *, careless_programs: float = 1.0, careless_tests: float = 0.35
) -> Iterator[Sample]:
    """What the base model is trained on: programs and tests by authors who err.

    Args:
        num_samples: How many lessons; they are of the templates of the split `lessons`.
        careless_programs: Factor of every step's share of careless programs.
        careless_tests: The same where results of calls are worked out.

    Yields:
        Samples whose answer is a program, a test or a program with a test, in a fenced block, or
        calls that are worked through; their metadata holds `lesson`, which of these, beside what
        `read` gives but for tests.
    """
    templates = templates_of("lessons")
    lessons, odds = list(_LESSON_ODDS), list(_LESSON_ODDS.values())
    for number in range(num_samples):
        rng = np.random.default_rng((_LESSON_SEED, number))
        task = draw_task(rng, templates[rng.integers(len(templates))])
        lesson = lessons[rng.choice(len(lessons), p=odds)]
        careless = _errors(rng, task, careless_tests)
        num_calls = int(rng.integers((_MOST_CALLS[lesson] + 1) // 2, _MOST_CALLS[lesson] + 1))
        calls = [draw_arguments(rng, task) for _ in range(num_calls)]
        lines = [_worked(task, arguments, careless) for arguments in calls]
        if lesson == "calls":
            answer = "\n".join(working for working, _ in lines)
        else:
            program = task.program(_errors(rng, task, careless_programs))
            test = "\n".join(f"# {working}\n{line}" for working, line in lines)
            parts = {"program": program, "test": test, "program_and_test": f"{program}\n\n{test}"}
            answer = _fenced(parts[lesson])
        yield Sample(
            id=f"programs-lesson-{number}",
            messages=(user(_prompt(lesson, task)),),
            answer=answer,
            metadata={**_metadata("lessons", task), "lesson": lesson},
        )


@cache
def tasks_of(split: Split) -> tuple[Task, ...]:
    """All tasks of a split."""
    seed, tasks_per_template = SPLITS[split]
    templates = templates_of(split) * tasks_per_template
    order = np.random.default_rng(seed).permutation(len(templates))
    return tuple(
        draw_task(np.random.default_rng((seed, number)), templates[place])
        for number, place in enumerate(order)
    )


def fingerprint(split: Split) -> str:
    """Hash of a split's instructions, programs and tests: it is frozen."""
    content = hashlib.blake2b(digest_size=16)
    for task, tests in zip(tasks_of(split), _tests_of(split), strict=True):
        content.update(f"{json.dumps([task.instruction, task.program(), tests])}\n".encode())
    return content.hexdigest()


@cache
def _tests_of(split: Split) -> tuple[tuple[str, ...], ...]:
    seed = SPLITS[split].seed
    return tuple(
        hidden_tests(np.random.default_rng((seed, number, 1)), task)
        for number, task in enumerate(tasks_of(split))
    )


def _errors(rng: Generator, task: Task, factor: float) -> Errors:
    """In which steps an author is careless this time."""
    first, second, third = (
        bool(rng.random() < factor * step.careless_share) for step in task.template.steps
    )
    return first, second, third


def _worked(task: Task, arguments: tuple[Any, ...], careless: Errors) -> tuple[str, str]:
    """A call worked through, and its test; nobody writes down a result that there is not."""
    try:
        working = task.working(arguments, careless)
    except ValueError:
        careless = CAREFUL
        working = task.working(arguments)
    result = call(task.program(careless), task.entry_point, arguments)
    return working, assert_line(task.entry_point, arguments, result)


def _prompt(lesson: Lesson, task: Task) -> str:
    """What the agent asks by the recipe's prompts, or what only lessons ask."""
    text = (_PROMPTS / f"{lesson}.md").read_text(encoding="utf-8").strip()
    return Text(text).substitute(instruction=task.instruction)


def _fenced(source: str) -> str:
    return f"```python\n{source}\n```"


def _metadata(split: Split, task: Task) -> dict[str, Any]:
    return {
        "dataset": "programs",
        "split": split,
        "template": task.template.name,
        "question_type": task.template.family.name,
        "entry_point": task.entry_point,
        "signature": task.signature,
    }
