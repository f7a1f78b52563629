"""MBPP: about a thousand small functions to be written from a sentence and an example.

Source: MBPP (Austin et al., 2021), the files mbpp.jsonl and sanitized-mbpp.json; text and first
test in a docstring as the BigCode harness has them. The chat prompt is mmalign's own, and so is
the rule which tests need one process with the program.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from mmalign.api import ConfigError, RecordError, Sample, user
from mmalign.datasets.benchmark_files import require_text
from mmalign.datasets.problem_files import (
    Form,
    Problem,
    chat_prompt,
    fenced,
    parse,
    problems,
    require_form,
)

__all__ = ["STOPS", "Split", "read"]

Split = Literal["prompt", "test", "validation", "train", "all"]

STOPS = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")
"""Where a completion ends that goes on from the prompt."""

_IDS: dict[str, range] = {
    "prompt": range(1, 11),
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
}
_SUITE = """import unittest


class Tests(unittest.TestCase):
    def test_all(self):
        exec({source!r}, globals())
"""


def read(
    path: str | Path,
    split: Split = "test",
    *,
    form: Form = "chat",
    task_ids: Sequence[str] = (),
    num_samples: int | None = None,
) -> Iterator[Sample]:
    """All problems of a split, in the file's order.

    Args:
        path: `mbpp.jsonl` or `sanitized-mbpp.json`.
        split: By the published ranges of ids: test is 11 to 510.
        form: `chat` asks for a fenced block, `completion` gives the docstring as it is.
        task_ids: Only these, as `"11"`.
        num_samples: Stop after so many of the split.

    Yields:
        Samples whose answer is the reference code. Tests that use a class of the program, pass a
        lambda or prepare with the program's functions need one process with it: `mode: suite`.

    Raises:
        ConfigError: There is no such file, split, form or id.
        RecordError: A problem does not have the published form, or its tests call nothing that its
            reference code defines.
    """
    require_form(form)
    if split not in get_args(Split):
        raise ConfigError(f"mbpp: found split {split!r}, expected one of {', '.join(_IDS)}, all")
    inside = [
        problem for problem in problems(Path(path), task_ids=task_ids) if _is_in(problem, split)
    ]
    for where, task_id, row in inside[:num_samples]:
        text = "text" if "text" in row else "prompt"  # the sanitised file says prompt
        item = require_text(where, row, (text, "code"))
        tests = _texts(where, row, "test_list")
        setup = str(row.get("test_setup_code") or "")
        setup = "\n".join([*_texts(where, row, "test_imports"), setup]).strip()
        need = _need(where, item["code"], setup, tests)
        docstring = f'"""\n{item[text].strip()}\n{tests[0]}\n"""\n'
        yield Sample(
            id=task_id,
            messages=(user(chat_prompt(docstring) if form == "chat" else docstring),),
            answer=fenced(item["code"]) if form == "chat" else item["code"],
            tests=(_suite(setup, tests),) if need.mode == "suite" else tuple(tests),
            metadata={
                "dataset": "mbpp",
                "version": "sanitized" if text == "prompt" else "full",
                "subset": split,
                "entry_point": need.entry_points,
                "mode": need.mode,
                "answer_form": form,
                "prompt_code": "" if form == "chat" else docstring,
                "setup": setup if need.mode == "check" else "",
                "stops": STOPS,
                "prompt_template": f"mbpp/{form}-1",
            },
        )


class _Need(NamedTuple):
    """What the tests call, and where they must run."""

    entry_points: list[str]
    mode: Literal["check", "suite"]


def _need(where: str, code: str, setup: str, tests: Sequence[str]) -> _Need:
    defined = parse(f"{where}, code", code)
    prepared = parse(f"{where}, setup", setup)
    asserted = parse(f"{where}, test_list", "\n".join(tests))
    functions = [name for node in defined for name in _functions(node)]
    classes = {node.name for node in defined if isinstance(node, ast.ClassDef)}
    used = _names(prepared) | _names(asserted)
    called = [name for name in dict.fromkeys(functions) if name in used]
    if not called and not classes & used:
        raise RecordError(
            f"{where}: its tests call none of {functions}, which its reference code defines"
        )
    gives_code = any(isinstance(node, ast.Lambda) for part in asserted for node in ast.walk(part))
    in_one = classes & used or gives_code or _names(prepared) & set(functions)
    return _Need([*called, *sorted(classes & used)], "suite" if in_one else "check")


def _functions(node: ast.stmt) -> list[str]:
    """Names of functions that a statement defines: by def, or as a value."""
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _names(statements: Sequence[ast.stmt]) -> set[str]:
    return {part.id for node in statements for part in ast.walk(node) if isinstance(part, ast.Name)}


def _is_in(problem: Problem, split: str) -> bool:
    number = problem.task_id.rpartition("/")[2]  # some editions write Mbpp/11
    if not number.isdigit():
        raise RecordError(f"{problem.where}: task_id {problem.task_id!r} does not end in a number")
    return split == "all" or int(number) in _IDS[split]


def _suite(setup: str, tests: Sequence[str]) -> str:
    return _SUITE.format(source="\n".join([setup, *tests]))


def _texts(where: str, row: Mapping[str, Any], name: str) -> list[str]:
    found = row.get(name, [])
    texts = isinstance(found, list) and all(isinstance(text, str) for text in found)
    if not texts or (name == "test_list" and not found):
        raise RecordError(f"{where}: field {name!r} is {found!r}, expected a list of texts")
    return list(found)
