"""What the DSTC agent reads in replies, what it keeps from benchmarks, what it warns about."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmalign.agents.dstc_overlaps import overlap, read_benchmark
from mmalign.agents.dstc_replies import (
    UnreadableError,
    name_function,
    read_all,
    read_program,
    read_test,
)
from mmalign.agents.dstc_warnings import warnings_about
from mmalign.api import (
    Completion,
    ConfigError,
    DroppedSample,
    Lineage,
    PreferencePair,
    Response,
    text_of,
    user,
)

RIGHT = "def add(a, b):\n    return a + b"
TEST_SUM = "assert add(2, 3) == 5"


def block(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```"


# Replies -------------------------------------------------------------------------------------


def test_a_program_loses_what_it_would_do_as_a_script() -> None:
    reply = block(f"{RIGHT}\n\nprint(add(1, 2))\nif __name__ == '__main__':\n    add(1, 2)")
    assert read_program(reply, "add") == RIGHT


def test_a_line_that_holds_more_than_the_print_stays() -> None:
    assert read_program(block(f"{RIGHT}\nx = 1; print(x)"), "add").endswith("x = 1; print(x)")


def test_a_test_need_not_import_what_it_tests() -> None:
    assert read_test(block(f"from solution import add\n{TEST_SUM}"), "add") == TEST_SUM


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("def add(a, b): return a + b", "no_block"),
        ("```python\ndef add(a, b):\n    return a", "truncated"),
        (block("def add(a, b:\n    return"), "syntax_error"),
        (block("\0"), "syntax_error"),
        (block("def sum(a, b):\n    return a"), "no_entry_point"),
        (block("class A:\n    def add(self, b):\n        return b"), "no_entry_point"),
    ],
)
def test_what_is_no_program(reply: str, reason: str) -> None:
    with pytest.raises(UnreadableError, match=f"^{reason}$"):
        read_program(reply, "add")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("add(1, 2)", "no_assert"),
        ("assert True", "no_call"),
        ("assert sub(1, 2) == 3", "no_call"),
        (f"{RIGHT}\n{TEST_SUM}", "no_call"),
        ("try:\n    assert add(1, 2) == 3\nexcept AssertionError:\n    pass", "no_assert"),
        ("assert add(1, 2) ==", "syntax_error"),
    ],
)
def test_what_is_no_test(source: str, reason: str) -> None:
    with pytest.raises(UnreadableError, match=f"^{reason}$"):
        read_test(block(source), "add")


def test_duplicates_differ_in_space_comments_and_quotes_alone() -> None:
    texts = ["def add(a):\n    return 'a'", 'def add( a ):  # why\n  return "a"', "def add(b): 0"]
    found = read_all([Completion(text=block(t)) for t in texts], lambda r: read_program(r, "add"))
    assert found.texts == (texts[0], texts[2])
    assert found.counts == {"num_drawn": 3, "num_kept": 2, "duplicate": 1}


def test_three_examples_of_a_reason_are_kept() -> None:
    replies = [Completion(text=f"{number}") for number in range(5)]
    found = read_all(replies, lambda reply: read_program(reply, "add"))
    assert found.counts["no_block"] == 5
    assert [example["text"] for example in found.examples] == ["0", "1", "2"]


def test_an_invalid_escape_in_a_program_is_no_warning() -> None:
    assert read_program(block("def add(a):\n    return '\\d'"), "add")


def test_the_function_of_a_program_is_the_one_that_no_other_calls() -> None:
    helper = "def half(x):\n    return x / 2\ndef mean(a, b=0):\n    return half(a + b)"
    assert name_function(block(helper)) == ("mean", "mean(a, b=0)")
    with pytest.raises(UnreadableError, match="no_entry_point"):
        name_function(block("x = 1"))


# Overlaps and warnings -----------------------------------------------------------------------

ASKED = "Check if in given list of numbers, are any two numbers closer to each other than that."


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    row = {"prompt": f'def close(xs):\n    """ {ASKED} """\n', "entry_point": "close"}
    short = {"prompt": 'def add(a, b):\n    """Return the sum."""', "entry_point": "add"}
    path = tmp_path / "problems.jsonl"
    path.write_text("\n".join(map(json.dumps, (row, short))) + "\n")
    return path


def test_the_same_function_with_the_same_text_overlaps(problems: Path) -> None:
    benchmark = read_benchmark(problems)
    assert overlap("Return the sum.", "add", benchmark) == "the function 'add' with the same text"
    assert overlap("Return the sum.", "plus", benchmark) is None
    assert overlap("Return the difference.", "add", benchmark) is None


@pytest.mark.parametrize(
    ("text", "message"), [("[1]\n", "1: expected a JSON object"), ('{"a": 1}\n', "1: has none of")]
)
def test_a_file_of_no_problems_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_benchmark(path)


def test_a_missing_file_of_problems_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.jsonl"):
        read_benchmark(tmp_path / "none.jsonl")


def kept(score: float, *, chosen: str = "a", rejected: str = "b") -> PreferencePair:
    counts = {"num_drawn": 4, "num_kept": 4, "unreadable": []}
    votes = {"programs": counts, "tests": counts, "execution": {"mean_score": score}}
    return PreferencePair(
        sample_id="s",
        prompt=(user("?"),),
        chosen=Response(messages=(text_of(chosen),)),
        rejected=Response(messages=(text_of(rejected),)),
        lineage=Lineage(votes=votes),
    )


def lost(reason: str, **counts: Any) -> DroppedSample:
    votes = {"programs": {"num_drawn": 4, "num_kept": 0, "unreadable": [], **counts}}
    return DroppedSample(
        sample_id="s", reason=reason, node="n", message="m", lineage=Lineage(votes=votes)
    )


def test_a_sound_build_is_no_reason_to_warn() -> None:
    assert warnings_about([kept(0.5)] * 5) == []
    assert warnings_about([lost("all_pass")] * 4) == []  # four say nothing


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([kept(0.5), *[lost("all_pass")] * 5], "only 1 of 6 instructions became a pair"),
        ([kept(0.1)] * 5, "passes 10% of the tests"),
        ([kept(0.96)] * 5, "passes 96% of the tests"),
        ([kept(0.5), kept(0.5), *[lost("x", truncated=4)] * 3], "12 of 20 replies hold none of"),
        ([kept(0.5, chosen="a" * 9)] * 5, "have 9 characters on average, rejected ones 1"),
    ],
)
def test_every_reason_to_warn(records: list[PreferencePair | DroppedSample], message: str) -> None:
    (warning,) = warnings_about(records)
    assert message in warning


def test_duplicates_are_not_unreadable() -> None:
    assert warnings_about([kept(0.5), kept(0.5), *[lost("x", duplicate=4)] * 3]) == []
