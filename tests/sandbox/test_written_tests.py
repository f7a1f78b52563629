"""Which tests of a model are none."""

import pytest

from mmalign.sandbox import written_tests

problem_of = written_tests.test_problem


@pytest.mark.parametrize(
    "source",
    [
        "assert add(1, 2) == 3",
        "x = add(1, 2)\nassert x == 3",
        "assert (y := add(1, 2)) == 3",
        "f = add\nassert f(1, 2) == 3",
        "def test_add():\n    assert add(1, 2) == 3",
        "def check(candidate):\n    assert candidate(1, 2) == 3",
        "def check(candidate):\n    assert candidate(1, 2) == 3\ncheck(add)",
        "def same(f, a):\n    assert f(a, a) == 2 * a\nsame(add, 2)",
        "def ok(a):\n    return add(a, a) == 2 * a\nassert ok(3)",
        "for a, b, c in [(1, 2, 3)]:\n    assert add(a, b) == c",
        "assert all(add(i, i) == 2 * i for i in range(4))",
        "assert list(map(add, [1], [2])) == [3]",
        "found = []\nfor i in range(3):\n    found.append(add(i, i))\nassert found == [0, 2, 4]",
        "numbers = [2, 1]\nadd(numbers, 1)\nassert numbers == [1, 2]",
        "try:\n    add('a', 1)\n    assert False\nexcept TypeError:\n    pass",
        "try:\n    add('a', 1)\nexcept TypeError:\n    pass\nelse:\n    assert False, 'no error'",
        "bad = False\ntry:\n    add('a', 1)\nexcept TypeError:\n    bad = True\nassert bad",
        "try:\n    assert add(1, 2) == 3\nexcept AssertionError:\n    raise",
        "try:\n    assert add(1, 2) == 3\nexcept ValueError:\n    pass",
        "with open('x') as file:\n    assert add(1, 2) == 3",
        "match 1:\n    case 1:\n        assert add(1, 2) == 3",
        "if True:\n    assert not add(1, 2) != 3",
        "assert True\nassert add(1, 2) == 3",
    ],
)
def test_a_test_is_one(source: str) -> None:
    assert problem_of(source, "add") is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f(:", "syntax_error"),
        ("assert add(1) == 1\0", "syntax_error"),
        ("(" * 500 + ")" * 500, "syntax_error"),
        ("assert add(1, 2) == " + "+".join(["1"] * 20_000), "syntax_error"),
        ("assert add('\ud800', 2) == 3", "syntax_error"),
        ("", "no_assert"),
        ("add(1, 2)", "no_assert"),
        ("add(1, 2)\nassert True", "no_assert"),
        ("assert (add(1, 2) == 4, 'tuple')", "no_assert"),
        ("assert [add(1, 2) == 4]", "no_assert"),
        ("assert add(1, 2) == 4 or True", "no_assert"),
        ("assert not (False and add(1, 2))", "no_assert"),
        ("assert lambda: add(1, 2) == 4", "no_assert"),
        ("assert add(1, 2) == add(1, 2)", "no_assert"),
        ("try:\n    assert add(1, 2) == 4\nexcept Exception:\n    pass", "no_assert"),
        ("try:\n    assert add(1, 2) == 4\nexcept:\n    print('no')", "no_assert"),
        (
            "try:\n    assert add(1, 2) == 4\nexcept (ValueError, AssertionError):\n    pass",
            "no_assert",
        ),
        ("if 0:\n    assert add(1, 2) == 4", "no_assert"),
        ("while False:\n    assert add(1, 2) == 4", "no_assert"),
        ("for i in ():\n    assert add(1, i) == 4", "no_assert"),
        ("if __name__ == '__main__':\n    assert add(1, 2) == 4", "no_assert"),
        ("def helper():\n    assert add(1, 2) == 4", "no_assert"),
        ("def test_a():\n    return\n    assert add(1, 2) == 4", "no_assert"),
        (
            "def run():\n    assert add(1, 2) == 4\ntry:\n    run()\nexcept Exception:\n    pass",
            "no_assert",
        ),
        (
            "import contextlib\nwith contextlib.suppress(Exception):\n    assert add(1) == 4",
            "no_assert",
        ),
        ("assert 1 + 1 == 2", "no_call"),
        ("assert callable(add)", "no_call"),
        ("assert other(1, 2) == 3", "no_call"),
        ("def add(a, b):\n    return a + b\nassert add(1, 2) == 3", "no_call"),
        ("from mine import add\nassert add(1, 2) == 3", "no_call"),
        ("add = lambda a, b: 3\nassert add(1, 2) == 3", "no_call"),
        ("class add:\n    pass\nassert add(1, 2) == 3", "no_call"),
    ],
)
def test_what_is_no_test_says_why(source: str, reason: str) -> None:
    assert problem_of(source, "add") == reason


def test_the_name_of_the_function_matters() -> None:
    assert problem_of("assert add(1, 2) == 3", "subtract") == "no_call"
