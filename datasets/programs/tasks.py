"""Tasks of the world: a template with its numbers and words, its programs, its tests."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal

from numpy.random import Generator

from mmalign.datasets.programs.steps import FAMILIES, Family, Step

__all__ = [
    "CAREFUL",
    "NAMES",
    "Errors",
    "Split",
    "Task",
    "Template",
    "assert_line",
    "call",
    "draw_arguments",
    "draw_task",
    "hidden_tests",
    "templates_of",
]

Split = Literal["lessons", "train", "validation", "test"]
"""`lessons` makes the base model, `train` its preference pairs; the others only judge it."""

NAMES = (
    "solve",
    "work",
    "pick",
    "compute",
    "process",
    "collect",
    "build",
    "answer",
    "find",
    "make",
)
_SPLIT_ENDS: dict[Split, float] = {"lessons": 0.55, "train": 0.75, "validation": 0.85, "test": 1.0}
_LENGTH_ODDS = (0.05, 0.15, 0.3, 0.3, 0.2)
_LETTERS = "abeimotz"
_NUM_TESTS = 8
_NUM_TRIED = 300

Errors = tuple[bool, bool, bool]
"""In which steps an author is careless, where one can be."""
CAREFUL: Errors = (False, False, False)


@dataclass(frozen=True)
class Template:
    """What a function does, but for numbers and words; no template is in two splits."""

    family: Family
    steps: tuple[Step, Step, Step]

    @property
    def name(self) -> str:
        """As `lists/above/square/sum`."""
        return "/".join((self.family.name, *(step.name for step in self.steps)))

    @property
    def makes_sense(self) -> bool:
        """Whether every step can change the result."""
        _, change, finish = self.steps
        return change.name != finish.name and (finish.name != "count" or change.name == "same")


@dataclass(frozen=True)
class Task:
    """A template with all that is open in it."""

    template: Template
    entry_point: str
    numbers: tuple[int, ...]
    """{k} of every step; 0 where it has none."""
    wordings: tuple[int, ...]
    """Which wording of every step."""

    @property
    def signature(self) -> str:
        """As `solve(xs)`."""
        return f"{self.entry_point}({self.template.family.parameters})"

    @property
    def instruction(self) -> str:
        """What the function is to do, in one sentence."""
        words = [
            _filled(step.wordings[place], number)
            for step, place, number in zip(
                self.template.steps, self.wordings, self.numbers, strict=True
            )
        ]
        inner = self.template.family.inner_words.format(*words)
        return f"Write a function {self.signature} that returns {words[2].format(items=inner)}."

    def program(self, careless: Errors = CAREFUL) -> str:
        """The function as its author writes it, careless in the steps that are named."""
        codes = self._codes(careless)
        inner = self.template.family.inner_code.format(*codes)
        return self._returning(codes[2].format(items=inner))

    def working(self, arguments: tuple[Any, ...], careless: Errors = CAREFUL) -> str:
        """A call worked through, as `[1, 4] -> [4] -> [16] -> 16`.

        Raises:
            ValueError: Carelessness about an empty list leaves no result.
        """
        stages = [stage.format(*self._codes(careless)) for stage in self.template.family.stages]
        programs = [*map(self._returning, stages), self.program(careless)]
        values = (call(program, self.entry_point, arguments) for program in programs)
        return " -> ".join((", ".join(map(repr, arguments)), *map(repr, values)))

    def _codes(self, careless: Errors) -> list[str]:
        return [
            _filled(step.careless if errs and step.careless else step.right, number)
            for step, errs, number in zip(self.template.steps, careless, self.numbers, strict=True)
        ]

    def _returning(self, code: str) -> str:
        return f"def {self.signature}:\n    return {code}"

    @property
    def careless_programs(self) -> tuple[str, ...]:
        """Every program that is careless in one step or more."""
        choices = [(False, True) if step.careless else (False,) for step in self.template.steps]
        return tuple(self.program((a, b, c)) for a, b, c in product(*choices) if a or b or c)


@cache
def templates_of(split: Split) -> tuple[Template, ...]:
    """All templates of a split; the hash of its name decides where a template belongs."""
    return tuple(
        template
        for family in FAMILIES
        for steps in product(*family.slots)
        if (template := Template(family, steps)).makes_sense and _split_of(template) == split
    )


def draw_task(rng: Generator, template: Template) -> Task:
    """A task of a template: a name, numbers and words."""
    return Task(
        template,
        NAMES[rng.integers(len(NAMES))],
        tuple(int(rng.choice(step.numbers)) if step.numbers else 0 for step in template.steps),
        tuple(int(rng.integers(len(step.wordings))) for step in template.steps),
    )


def draw_arguments(rng: Generator, task: Task) -> tuple[Any, ...]:
    """What a test might call the function with; limits and repeats are frequent."""
    near = [
        edge
        for step, k in zip(task.template.steps, task.numbers, strict=True)
        if step.numbers
        for edge in (k, k, k + 3 if "{after}" in step.right else k)
        if 0 <= edge <= 9
    ]

    def number() -> int:
        if near and rng.random() < 0.35:
            return int(rng.choice(near))
        return int(rng.integers(10))

    match task.template.family.name:
        case "lists":
            return ([number() for _ in range(rng.choice(len(_LENGTH_ODDS), p=_LENGTH_ODDS))],)
        case "texts":
            length = int(rng.choice(len(_LENGTH_ODDS), p=_LENGTH_ODDS))
            return ("".join(rng.choice(list(_LETTERS), size=length)),)
        case _:
            first = number()
            return first, first if rng.random() < 0.3 else number()


def call(program: str, entry_point: str, arguments: tuple[Any, ...]) -> Any:
    """What a program of this module returns; never for what a model has written.

    Raises:
        ValueError: It is careless about an empty list.
    """
    return _function(program, entry_point)(*arguments)


def assert_line(entry_point: str, arguments: tuple[Any, ...], result: Any) -> str:
    """A test of one call."""
    return f"assert {entry_point}({', '.join(map(repr, arguments))}) == {result!r}"


def hidden_tests(rng: Generator, task: Task) -> tuple[str, ...]:
    """Tests of which every careless program fails one, where any input tells it from the right."""
    right = task.program()
    tried = [draw_arguments(rng, task) for _ in range(_NUM_TRIED)]
    empty: dict[str, list[tuple[Any, ...]]] = {"lists": [([],)], "texts": [("",)]}
    tried = empty.get(task.template.family.name, []) + tried
    chosen = tried[:1]
    for careless in task.careless_programs:
        telling = (a for a in [*chosen, *tried] if _differ(right, careless, task.entry_point, a))
        chosen += [arguments for arguments in [next(telling, None)] if arguments is not None]
    lines = (
        assert_line(task.entry_point, arguments, call(right, task.entry_point, arguments))
        for arguments in [*chosen, *tried]
    )
    num_tests = max(_NUM_TESTS, len(chosen))
    return tuple(dict.fromkeys(lines))[:num_tests]


def _differ(right: str, careless: str, entry_point: str, arguments: tuple[Any, ...]) -> bool:
    try:
        found = call(careless, entry_point, arguments)
    except ValueError:
        return True
    return bool(found != call(right, entry_point, arguments))


@cache
def _function(program: str, entry_point: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(program, space)  # noqa: S102  # a program of this module's own templates
    found: Callable[..., Any] = space[entry_point]
    return found


def _filled(text: str, number: int) -> str:
    return text.format(k=number, before=number - 1, after=number + 3, items="{items}")


def _split_of(template: Template) -> Split:
    digest = hashlib.blake2b(template.name.encode(), digest_size=4).digest()
    place = int.from_bytes(digest) / 2**32
    return next(split for split, end in _SPLIT_ENDS.items() if place < end)
