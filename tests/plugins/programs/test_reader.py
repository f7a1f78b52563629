"""Splits share no template and are frozen; hidden tests tell right programs from careless ones."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmalign.api import ConfigError, Sample, Sandbox, SandboxConfig
from mmalign.datasets.programs import read_easy, reader
from mmalign.datasets.programs.reader import SPLITS, fingerprint, read, read_lessons, tasks_of
from mmalign.datasets.programs.steps import FAMILIES
from mmalign.datasets.programs.tasks import (
    Split,
    Task,
    assert_line,
    call,
    draw_arguments,
    templates_of,
)

FROZEN = json.loads((Path(reader.__file__).parent / "frozen.json").read_text())
EVALUATED: tuple[Split, ...] = ("train", "validation", "test")


def source_of(answer: str | None) -> str:
    assert answer is not None
    return answer.removeprefix("```python\n").removesuffix("\n```")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(packages=())) as opened:
        yield opened


@pytest.mark.parametrize("split", EVALUATED)
def test_instructions_programs_and_tests_are_frozen(split: Split) -> None:
    assert fingerprint(split) == FROZEN["tasks"][split]


def test_no_template_is_in_two_splits() -> None:
    names = [template.name for split in SPLITS for template in templates_of(split)]
    assert len(names) == len(set(names))
    least: dict[Split, int] = {"lessons": 600, "train": 200, "validation": 100, "test": 150}
    for split, number in least.items():
        assert len(templates_of(split)) >= number, split


def test_lessons_have_taught_every_step_that_others_combine_anew() -> None:
    taught = {
        (template.family.name, place, step.name)
        for template in templates_of("lessons")
        for place, step in enumerate(template.steps)
    }
    steps = {
        (family.name, place, step.name)
        for family in FAMILIES
        for place, slot in enumerate(family.slots)
        for step in slot
    }
    assert taught == steps


@pytest.mark.parametrize("split", EVALUATED)
def test_a_sample_asks_for_a_function_and_hides_its_tests(split: Split) -> None:
    samples = list(read(split))
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        name = sample.metadata["entry_point"]
        assert f"a function {sample.metadata['signature']} that returns" in sample.question
        assert not set("{}") & set(sample.question)
        assert source_of(sample.answer).startswith(f"def {name}(")
        assert sample.tests is not None
        assert len(set(sample.tests)) == 8
        assert not any(test in sample.question for test in sample.tests)


def test_right_programs_pass_in_the_sandbox_and_careless_ones_do_not(sandbox: Sandbox) -> None:
    for task, sample in zip(tasks_of("validation")[:12], read("validation"), strict=False):
        tests = "\n".join(sample.tests or ())
        right = sandbox.check(source_of(sample.answer), tests, task.entry_point)
        assert (right.status, right.num_passed) == ("pass", 8)
        for careless in _different(task)[:1]:
            assert sandbox.check(careless, tests, task.entry_point).status in ("fail", "error")


def test_reference_solutions_of_the_easy_tasks_pass(sandbox: Sandbox) -> None:
    samples = list(read_easy())
    assert len({sample.id for sample in samples}) == 20
    for sample in samples:
        tests = "\n".join(sample.tests or ())
        name = sample.metadata["entry_point"]
        assert sandbox.check(source_of(sample.answer), tests, name).passed, name
        assert not sandbox.check(f"def {name}(*_):\n    return 3.5", tests, name).passed, name


@pytest.mark.parametrize("split", EVALUATED)
def test_hidden_tests_find_every_carelessness_that_matters(split: Split) -> None:
    for task, sample in zip(tasks_of(split), read(split), strict=True):
        for careless in _different(task):
            assert not all(_holds(test, careless, task) for test in sample.tests or ())


def test_a_split_can_be_cut_and_must_exist() -> None:
    assert [sample.id for sample in read("test", num_samples=2)] == [
        sample.id for sample in list(read("test"))[:2]
    ]
    with pytest.raises(ConfigError, match="split 'tset'"):
        list(read("tset"))  # type: ignore[arg-type]  # what a recipe may say


def test_lessons_are_of_all_kinds_and_of_their_own_templates() -> None:
    lessons = list(read_lessons(400))
    kinds = Counter(lesson.metadata["lesson"] for lesson in lessons)
    assert min(kinds[kind] for kind in ("program", "test", "program_and_test", "calls")) >= 20
    own = {template.name for template in templates_of("lessons")}
    assert {lesson.metadata["template"] for lesson in lessons} <= own


def test_careful_authors_write_what_is_right() -> None:
    for lesson in read_lessons(200, careless_programs=0, careless_tests=0):
        for program, test in _parts(lesson):
            assert "min([" not in program or "default=0" in program
            assert "[::-1]" not in program or "a to z" not in lesson.question
            for line in test.splitlines():
                assert line.startswith(("# ", f"assert {lesson.metadata['entry_point']}("))


def test_careless_authors_err_in_programs_more_often_than_in_tests() -> None:
    careful = list(read_lessons(600, careless_programs=0, careless_tests=0))
    careless = list(read_lessons(600))
    differ: dict[str, list[bool]] = {"program": [], "test": []}
    for one, other in zip(careful, careless, strict=True):
        if (kind := one.metadata["lesson"]) in differ:
            differ[kind].append(one.answer != other.answer)
    program, test = (float(np.mean(differ[kind])) for kind in ("program", "test"))
    assert 0.35 < program < 0.75
    assert 0.05 < test < program - 0.2


def _parts(lesson: Sample) -> list[tuple[str, str]]:
    """Program and test of a lesson; nothing of a lesson that has none."""
    if lesson.metadata["lesson"] == "calls":
        return []
    source = source_of(lesson.answer)
    match lesson.metadata["lesson"]:
        case "program":
            return [(source, "")]
        case "test":
            return [("", source)]
        case _:
            program, test = source.split("\n\n")
            return [(program, test)]


def _different(task: Task) -> list[str]:
    """Careless programs that one of many calls tells from the right one."""
    rng = np.random.default_rng(1)
    calls = [draw_arguments(rng, task) for _ in range(60)]
    lines = [
        assert_line(task.entry_point, arguments, call(task.program(), task.entry_point, arguments))
        for arguments in calls
    ]
    return [
        program
        for program in task.careless_programs
        if not all(_holds(line, program, task) for line in lines)
    ]


def _holds(test: str, program: str, task: Task) -> bool:
    """Whether a program of the world passes an assert of the world."""
    space: dict[str, object] = {}
    try:
        exec(f"{program}\n{test}", space)  # the world's own texts, no model's
    except (AssertionError, ValueError):
        return False
    return task.entry_point in space
