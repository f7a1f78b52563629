"""The program in an answer: fences, stops, and what stays of a block of lines."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmalign.evaluation.code import CodeProblem, program_of
from mmalign.evaluation.code_text import (
    before_stops,
    fenced_code,
    longest_valid_block,
    sanitise,
)

ADD = "def add(a, b):\n    return a + b"


def test_text_ends_before_the_first_stop() -> None:
    assert (
        before_stops("    return 1\n\nprint(f())\ndef g", ["\ndef", "\nprint"]) == "    return 1\n"
    )
    assert before_stops("    return 1", ["\ndef"]) == "    return 1"
    assert before_stops("x", ()) == "x"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (f"Sure:\n```python\n{ADD}\n```\nDone.", ADD),
        (f"```\n{ADD}\n```", ADD),
        (f"```python\nx = 1\n```\nthen\n```py\n{ADD}\n```", ADD),
        (f"```python\ndef add(a): ...\n```\nBetter:\n```python\n{ADD}\n```", ADD),
        (f"```python\n{ADD}\n```\nUse it:\n```python\nadd(1, 2)\n```", ADD),
        (f"```bash\npip install x\n```\n```python\n{ADD}\n```", ADD),
        (f"~~~~python\n{ADD}\n~~~~", ADD),
        ("```python\nfirst = 1\n```\n```python\nsecond = 2\n```", "first = 1"),
        (f"1. Do it\n   ```python\n   {ADD.replace(chr(10), chr(10) + '   ')}\n   ```", ADD),
        (f"```python\n{ADD}", ADD),
        (ADD, ADD),
        ("no code", "no code"),
        ("", ""),
    ],
)
def test_block_that_defines_the_entry_point_is_taken(answer: str, code: str) -> None:
    assert fenced_code(answer, ["add"]) == code


def test_longest_valid_block_of_lines() -> None:
    assert longest_valid_block(f"Here is the code:\n{ADD}\nI hope it helps!") == ADD
    assert longest_valid_block(f"{ADD}\n    this is cut off (") == ADD
    assert longest_valid_block("a = 1\n!\nb = 2\nc = 3") == "b = 2\nc = 3"
    assert longest_valid_block("a = 1\nb = 2\n!\nc = 3\nd = 4") == "a = 1\nb = 2"
    assert longest_valid_block('"""not closed\nx = 1') == "x = 1"
    assert longest_valid_block("what? is! this,,") == ""
    assert longest_valid_block("") == ""


@given(st.lists(st.sampled_from(["x = 1", "def f():", "    y", "!", "'''", "(", "", "else:"])))
def test_block_is_as_long_as_by_trying_all(lines: list[str]) -> None:
    def size(text: str) -> int:
        return sum(bool(line.strip()) for line in text.split("\n"))

    def is_valid(text: str) -> bool:
        try:
            ast.parse(text)
        except SyntaxError:
            return False
        return True

    blocks = [
        "\n".join(lines[start:end])
        for start in range(len(lines))
        for end in range(start, len(lines) + 1)
    ]
    longest = max([size(block) for block in blocks if is_valid(block)], default=0)
    assert size(longest_valid_block("\n".join(lines))) == longest


def test_only_what_the_entry_point_needs_stays() -> None:
    source = (
        "import math\n"
        "from typing import List\n"
        "LIMIT = 3\n"
        "UNUSED = 4\n"
        "def helper(x):\n    return min(x, LIMIT)\n"
        "def other():\n    return UNUSED\n"
        "class Box:\n    size = 2\n"
        "@staticmethod\n"
        "def f(x):\n    return helper(x) + Box.size\n"
        "print(f(1))\n"
        "assert f(1) == 3\n"
        "if __name__ == '__main__':\n    f(2)"
    )
    assert sanitise(source, ["f"]) == (
        "import math\n"
        "from typing import List\n"
        "LIMIT = 3\n"
        "def helper(x):\n    return min(x, LIMIT)\n"
        "class Box:\n    size = 2\n"
        "@staticmethod\n"
        "def f(x):\n    return helper(x) + Box.size"
    )


def test_conditional_bindings_stay_where_they_are_needed() -> None:
    source = (
        "try:\n    import numpy as np\nexcept ImportError:\n    np = None\ndef f():\n    return np"
    )
    assert sanitise(source, ["f"]) == source
    assert sanitise(source.replace("return np", "return 1"), ["f"]) == "def f():\n    return 1"


def test_functions_without_return_are_dropped_on_demand_only() -> None:
    source = "def mark(xs):\n    xs.append(1)\ndef f(xs):\n    mark(xs)\n    return xs"
    assert sanitise(source, ["f"]) == source
    official = sanitise(source, ["f"], drop_without_return=True)
    assert official == "def f(xs):\n    mark(xs)\n    return xs"


def test_block_without_the_entry_point_stays_whole() -> None:
    assert sanitise("x = 1\nprint(x)", ["f"]) == "x = 1\nprint(x)"
    assert sanitise("what? is! this,,", ["f"]) == "what? is! this,,"
    assert sanitise("f = lambda: 1\ng = 2", ["f"]) == "f = lambda: 1"


@pytest.mark.parametrize(
    "answer",
    ["x = '\\d'", "a\0b", "\ud800", "(" * 5000, "-" * 50_000 + "1", "\x0c", "\r\n\r", "x = 1 if"],
)
def test_odd_answers_are_no_crash(answer: str) -> None:
    assert isinstance(sanitise(answer, ["f"]), str)


def test_chat_answer_becomes_a_program() -> None:
    problem = CodeProblem(entry_point="add", tests="assert add(1, 1) == 2", prompt_code="import os")
    assert program_of(f"```python\n{ADD}\nprint(add(1, 2))\n```", problem) == f"import os\n{ADD}"
    assert program_of("```python\n\n```", problem) == ""
    assert program_of("", problem) == ""


def test_completion_goes_on_from_the_prompt_and_ends_before_a_stop() -> None:
    problem = CodeProblem(
        entry_point="add",
        tests="assert add(1, 1) == 2",
        answer_form="completion",
        prompt_code='def add(a, b):\n    """Sum."""\n',
        stops=("\nprint", "\ndef"),
    )
    program = program_of("    return a + b\nprint(add(1, 2))\n", problem)
    assert program == 'def add(a, b):\n    """Sum."""\n    return a + b'
    assert program_of("\nprint(add(1, 2))", problem) == ""
