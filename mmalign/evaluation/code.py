"""Programs in a model's answers, run in the sandbox against the tests of their problems."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mmalign.config import Config
from mmalign.errors import RecordError
from mmalign.evaluation.answers import AnswerFile, Key, read_lines
from mmalign.evaluation.asking import Asker, Question
from mmalign.evaluation.code_text import before_stops, fenced_code, sanitise
from mmalign.evaluation.parsing import check_profile
from mmalign.evaluation.predictions import Prediction
from mmalign.records import Sample, content_id
from mmalign.sandbox import Sandbox
from mmalign.sandbox.results import Status

__all__ = [
    "CodeProblem",
    "Verdict",
    "problem_of",
    "program_of",
    "read_verdicts",
    "run_programs",
    "sandbox_settings",
]


class CodeProblem(Config):
    """What a sample's metadata says about its program; other keys are not read."""

    entry_point: tuple[str, ...] | str
    """Functions that the tests call."""
    mode: Literal["check", "suite"] = "check"
    """check: a judge apart from the program asks for values; suite: one process holds both, for
    tests that need the program's own objects."""
    answer_form: Literal["chat", "completion"] = "chat"
    """chat: the program stands in a fenced block; completion: the answer goes on from
    `prompt_code`."""
    prompt_code: str = ""
    """Stands before the answer's code."""
    setup: str = ""
    """Runs before the tests, apart from the program."""
    stops: tuple[str, ...] = ()
    """A completion ends before the first of them."""
    tests: str = Field(min_length=1)
    """The sample's tests, as one program."""

    @property
    def entry_points(self) -> tuple[str, ...]:
        """All of them."""
        return (self.entry_point,) if isinstance(self.entry_point, str) else self.entry_point


class Verdict(Prediction):
    """What became of one answer; `prediction` is the program that was run."""

    answer: str
    """Content hash of the answer that the program was taken from."""
    status: Status
    message: str = ""
    num_run: int = 0
    num_passed: int = 0
    empty: bool = False
    """The answer held no code, so nothing was run."""
    again: bool = False
    """Run alone, because it took too long among others."""
    isolation: str = ""
    in_process: bool = False


def problem_of(sample: Sample) -> CodeProblem:
    """The problem that a sample states.

    Raises:
        RecordError: It has no tests or no entry point, or a field has no known value.
    """
    fields = {
        name: sample.metadata[name]
        for name in CodeProblem.model_fields
        if name in sample.metadata and name != "tests"
    }
    try:
        return CodeProblem(**fields, tests="\n".join(sample.tests or ()))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecordError(
            f'sample "{sample.id}": {".".join(map(str, first["loc"]))}: {first["msg"]}; a problem '
            f"for code has tests, and in its metadata an entry_point"
        ) from error


def program_of(answer: str, problem: CodeProblem, *, profile: str = "strict") -> str:
    """The program to run; empty where the answer holds no code."""
    official = check_profile(profile) == "official"
    names = problem.entry_points
    if problem.answer_form == "completion":
        rest = before_stops(answer, problem.stops)
        if not rest.strip():
            return ""
        return sanitise(problem.prompt_code + rest, names, drop_without_return=official)
    code = sanitise(fenced_code(answer, names), names, drop_without_return=official)
    return f"{problem.prompt_code}\n{code}" if code.strip() else ""


def read_verdicts(path: Path) -> list[Verdict]:
    """The last verdict on each answer.

    Raises:
        RecordError: A line is no verdict.
        StoreError: The file cannot be read.
    """
    return list({(line.id, line.draw): line for line in read_lines(path, Verdict)}.values())


async def run_programs(
    sandbox: Sandbox,
    questions: Sequence[Question],
    predictions: Mapping[Key, Prediction],
    path: Path,
    *,
    asker: Asker,
    profile: str = "strict",
) -> list[Verdict]:
    """Run the program of every answer, except where the file at `path` has its verdict already.

    What took too long is run once more, alone. What failed by the machine's fault is run again at
    the next start.

    Raises:
        StoreError: The verdicts there are of other problems or another sandbox.
    """
    asked = [question for question in questions if question.key in predictions]
    problems = {question.sample.id: problem_of(question.sample) for question in asked}
    file = AnswerFile(path, Verdict)
    origin = {"sandbox": sandbox_settings(sandbox), "profile": profile}
    file.claim(
        list({question.sample.id: question.sample for question in questions}.values()), origin
    )

    async def verdict(question: Question, *, again: bool = False) -> Verdict:
        problem, answer = problems[question.sample.id], predictions[question.key]
        program = program_of(answer.prediction, problem, profile=profile)
        return await _run(sandbox, problem, program, answer, again=again)

    def is_final(line: Verdict) -> bool:
        answer = _hash(predictions[line.id, line.draw])
        return line.answer == answer and line.status != "infra_error"

    num_workers = sandbox.config.num_workers or os.cpu_count() or 1
    found, _ = await replace(asker, max_concurrency=num_workers).all(asked, verdict, file, is_final)
    slow = [q for q in asked if found[q.key].status == "timeout" and not found[q.key].again]

    async def verdict_alone(question: Question) -> Verdict:
        return await verdict(question, again=True)

    alone = replace(asker, max_concurrency=1)
    again, _ = await alone.all(slow, verdict_alone, file, lambda line: line.again)
    return list((found | again).values())


def sandbox_settings(sandbox: Sandbox) -> dict[str, Any]:
    """What of a sandbox may change a verdict."""
    return sandbox.config.model_dump(mode="json", exclude={"num_workers"})


async def _run(
    sandbox: Sandbox, problem: CodeProblem, program: str, answer: Prediction, *, again: bool
) -> Verdict:
    said = {"id": answer.id, "draw": answer.draw, "answer": _hash(answer), "again": again}
    if not program:
        why = "the answer holds no code"
        return Verdict(**said, prediction="", status="fail", message=why, empty=True)
    if problem.mode == "suite":
        result = await asyncio.to_thread(sandbox.run_suite, program, problem.tests)
    else:
        result = await asyncio.to_thread(
            sandbox.check, program, problem.tests, problem.entry_points, setup=problem.setup
        )
    return Verdict(
        **said,
        prediction=program,
        status=result.status,
        message=result.message,
        num_run=result.num_run,
        num_passed=result.num_passed,
        seconds=round(result.seconds, 4),
        isolation=result.isolation,
        in_process=result.in_process,
    )


def _hash(answer: Prediction) -> str:
    return content_id([answer.prediction])
