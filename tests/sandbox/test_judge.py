"""Tests and candidate in two sandboxes: what a test sees of the function, and what is counted."""

from collections.abc import Iterator

import pytest

from mmalign.sandbox import Limits, Sandbox

pytestmark = pytest.mark.sandbox

TWO_SECONDS = Limits(wall_s=2.0, cpu_s=8.0)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


ECHO = "def f(*args, **kwargs):\n    return [args, kwargs]\n"


@pytest.mark.parametrize(
    ("candidate", "tests", "counts"),
    [
        (ECHO, "assert f(1, (2,), x={3}) == [(1, (2,)), {'x': {3}}]", (1, 1)),
        ("def f(x): return x + 1", "assert f(1) == 2\nassert f(2) == 3", (2, 2)),
        ("def f(x): return x + 1", "def check(candidate):\n    assert candidate(1) == 2", (1, 1)),
        (
            "def f(x): return x + 1",
            "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 3\n"
            "check(f)",
            (1, 1),
        ),
        (
            "def f(x): return x + 1",
            "def test_one():\n    assert f(1) == 2\ndef test_two(y=3):\n    assert f(y) == 4",
            (2, 2),
        ),
        ("def f(x): return x", "for x in ([], {}, set(), None):\n    assert f(x) == x", (1, 1)),
        ("def f(x): return x", "import math\nx = f(0.5)\nassert math.isclose(x, 0.5)", (1, 1)),
        (
            "import numpy as np\ndef f(n): return np.ones(n)",
            "import numpy as np\nassert np.allclose(f(3), 1) and f(3).shape == (3,)",
            (1, 1),
        ),
        ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]", (1, 1)),
        (
            "print('hello')\nimport sys\ndef f(): return __name__",
            "assert f() == 'solution'",
            (1, 1),
        ),
    ],
)
def test_passes(sandbox: Sandbox, candidate: str, tests: str, counts: tuple[int, int]) -> None:
    result = sandbox.check(candidate, tests, "f")
    assert (result.status, result.message) == ("pass", "")
    assert (result.num_run, result.num_passed) == counts


@pytest.mark.parametrize(
    "tests",
    [
        "x = [3, 1, 2]\nassert f(x) is None\nassert x == [1, 2, 3]",
        "inner = [2, 1]\nx = {'a': inner}\nf(x['a'])\nassert x == {'a': [1, 2]}",
        "a, b = [2, 1], [4, 3]\nf(x := (a, b)[0])\nassert a == [1, 2] and b == [4, 3]",
    ],
)
def test_a_sort_in_place_is_seen(sandbox: Sandbox, tests: str) -> None:
    assert sandbox.check("def f(x): x.sort()", tests, "f").status == "pass"


def test_nested_and_other_arguments_are_changed_in_place(sandbox: Sandbox) -> None:
    candidate = (
        "def f(rows, names, seen, data, *, more):\n"
        "    rows[0].append(9); rows.pop(); names['b'] = 2; names['a'].clear()\n"
        "    seen.add(3); data.extend(b'!'); more[0] = 'changed'; rows.append('new')\n"
        "    raise ValueError\n"
    )
    tests = (
        "row, inner, more = [1], [5], [0]\nrows, names = [row, [2], [3]], {'a': inner}\n"
        "seen, data = {1}, bytearray(b'x')\n"
        "try:\n    f(rows, names, seen, data, more=more)\n    assert False\n"
        "except ValueError:\n    pass\n"
        "assert row == [1, 9] and rows == [[1, 9], [2], 'new'] and rows[0] is row\n"
        "assert names == {'a': [], 'b': 2} and inner == [] and names['a'] is inner\n"
        "assert seen == {1, 3} and data == b'x!' and more == ['changed']\n"
    )
    result = sandbox.check(candidate, tests, "f")
    assert (result.status, result.message) == ("pass", "")


def test_an_input_that_must_not_change_is_seen_to_change(sandbox: Sandbox) -> None:
    candidate = "def f(x):\n    x.sort()\n    return x[0]\n"
    result = sandbox.check(candidate, "x = [2, 1]\nassert f(x) == 1\nassert x == [2, 1]", "f")
    assert (result.status, result.num_run, result.num_passed) == ("fail", 2, 1)


@pytest.mark.parametrize(
    ("raised", "caught"),
    [
        ("ValueError('no', 3)", "ValueError"),
        ("KeyError('k')", "LookupError"),
        ("type('Mine', (ValueError,), {})('no', 3)", "ValueError"),
        ("type('Mine', (Exception,), {})('no', 3)", "Exception"),
        ("__import__('json').JSONDecodeError('bad', 'text', 0)", "ValueError"),
        ("UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad')", "UnicodeDecodeError"),
        ("ZeroDivisionError()", "ArithmeticError"),
        ("ValueError(object())", "ValueError"),
        ("StopIteration(3)", "RuntimeError"),
        ("GeneratorExit()", "RuntimeError"),
        ("SystemExit(3)", "SystemExit"),
    ],
)
def test_exceptions_arrive_as_the_builtin_type(sandbox: Sandbox, raised: str, caught: str) -> None:
    tests = f"try:\n    f()\nexcept {caught} as error:\n    pass\nelse:\n    assert False\n"
    result = sandbox.check(f"def f():\n    raise {raised}", tests, "f")
    assert (result.status, result.message) == ("pass", "")


def test_arguments_and_text_of_an_exception_arrive(sandbox: Sandbox) -> None:
    tests = (
        "try:\n    f()\nexcept ValueError as error:\n    assert error.args == ('no', (1, 2))\n"
        "try:\n    g()\nexcept OSError as error:\n"
        "    assert error.errno == 2 and 'gone' in str(error)\n"
    )
    candidate = (
        "def f():\n    raise ValueError('no', (1, 2))\ndef g():\n    raise OSError(2, 'gone')\n"
    )
    assert sandbox.check(candidate, tests, ["f", "g"]).status == "pass"


@pytest.mark.parametrize(
    ("candidate", "tests", "status", "message"),
    [
        ("def f(): return 1", "assert f() == 2", "fail", "assert f() == 2: AssertionError"),
        ("def f(): return 1", "assert f() == 2, 'two'", "fail", "AssertionError: two"),
        ("def f(): return {}[1]", "assert f() == 2", "error", "KeyError: 1"),
        ("def f(:", "assert f() == 2", "error", "cannot be loaded: SyntaxError"),
        ("1 / 0", "assert f() == 2", "error", "cannot be loaded: ZeroDivisionError"),
        ("x = 1", "assert f() == 2", "error", "NameError: name 'f' is not defined"),
        ("f = 3", "assert f() == 2", "error", "'int' object is not callable"),
        ("def f(): return 1", "assert f(1) == 2", "error", "TypeError: f() takes 0 positional"),
        ("def f(): return print", "assert f()", "error", "builtin_function_or_method, which needs"),
        (
            "def f(g): return g()",
            "assert f(lambda: 1)",
            "error",
            "f() is given an object of type fun",
        ),
        ("class A: pass\ndef f(): return A()", "assert f()", "error", "an object of type A, which"),
        ("import os\ndef f(): os._exit(3)", "assert f()", "error", "ended during a call of f()"),
        ("def f(): return f() + 1", "assert f()", "error", "RecursionError"),
        ("def f(): return bytearray(1 << 40)", "assert f()", "oom", "MemoryError"),
        ("def f(): return 'x' * (1 << 25)", "assert f()", "error", "at most 16777216 are sent"),
        ("def f(): return 1", "assert f() ==", "error", "the tests cannot be run: SyntaxError"),
        ("def f(): return 1", "f()", "no_verdict", "the tests assert nothing"),
        ("def f(): return 1", "", "no_verdict", "the tests assert nothing"),
        ("def f(): return 1", "assert True", "no_verdict", "the tests call no entry point"),
        ("def f(): return 1", "def f(): return 2\nassert f() == 2", "no_verdict", "call no entry"),
        ("def f(): return 1", "import nowhere\nassert f() == 1", "error", "ModuleNotFoundError"),
    ],
)
def test_does_not_pass(
    sandbox: Sandbox, candidate: str, tests: str, status: str, message: str
) -> None:
    result = sandbox.check(candidate, tests, "f")
    assert result.status == status
    assert message in result.message
    assert result.num_passed == 0


@pytest.mark.parametrize(
    "candidate",
    ["import os\ndef f(): os._exit(0)", "def f(): return object()", "def f(): return lambda: 1"],
)
def test_no_test_can_swallow_the_end_of_the_code(sandbox: Sandbox, candidate: str) -> None:
    tests = "try:\n    assert f() == 1\nexcept BaseException:\n    pass\nassert 1 == 1\n"
    assert sandbox.check(candidate, tests, "f").status == "error"


def test_a_call_that_never_ends_is_a_timeout(sandbox: Sandbox) -> None:
    candidate = "import time\ndef f():\n    print('begun', flush=True)\n    time.sleep(60)\n"
    result = sandbox.check(candidate, "assert f()", "f", limits=TWO_SECONDS)
    assert result.status == "timeout"
    assert result.seconds < 4
    assert result.stdout == "begun\n"


def test_what_the_candidate_prints_comes_back(sandbox: Sandbox) -> None:
    candidate = (
        "import sys\nprint('loaded')\n"
        "def f():\n    print('out')\n    print('err', file=sys.stderr)\n    return 1\n"
    )
    result = sandbox.check(candidate, "assert f() == 1", "f")
    assert result.stdout == "loaded\nout\n"
    assert result.stderr == "err\n"


def test_setup_runs_with_the_tests_and_helpers_of_its_own_are_trusted(sandbox: Sandbox) -> None:
    setup = "def inverse(x):\n    return x / 2\ndef f(x):\n    '''Double x.'''\n"
    candidate = "def inverse(x):\n    return 1\ndef f(x):\n    return 0\n"
    assert sandbox.check(candidate, "assert inverse(f(1)) == 1", "f", setup=setup).status == "fail"
    right = "def f(x):\n    return 2 * x\n"
    assert sandbox.check(right, "assert inverse(f(1)) == 1", "f", setup=setup).status == "pass"


def test_a_setup_that_fails_says_so(sandbox: Sandbox) -> None:
    result = sandbox.check("def f(): return 1", "assert f() == 1", "f", setup="1 / 0")
    assert result.status == "error"
    assert result.message == "the tests cannot be run: ZeroDivisionError: division by zero"


SUITE = """
import unittest
from unittest.mock import patch

class TestF(unittest.TestCase):
    def setUp(self):
        self.value = 1

    def test_f(self):
        self.assertEqual(f(self.value), 2)

    def test_random(self):
        with patch("random.random", return_value=0.5):
            self.assertEqual(g(), 0.5)
"""
BOTH = "import random\ndef f(x): return x + 1\ndef g(): return random.random()\n"


@pytest.mark.parametrize(
    ("program", "tests", "status", "counts"),
    [
        (BOTH, SUITE, "pass", (2, 2)),
        (BOTH.replace("+ 1", "+ 2"), SUITE, "fail", (1, 0)),
        (BOTH.replace("x + 1", "x.y"), SUITE, "error", (1, 0)),
        ("def f(:", SUITE, "error", (0, 0)),
        (BOTH, "", "no_verdict", (0, 0)),
        ("import os\nos._exit(0)", SUITE, "no_verdict", (0, 0)),
        ("import sys\nsys.exit(0)", SUITE, "error", (0, 0)),
        (
            BOTH + "import unittest\ndef f(x): raise unittest.SkipTest",
            SUITE,
            "fail",
            (2, 1),
        ),
        ("def f(x): raise SystemExit(0)", SUITE, "error", (1, 1)),
        (
            "import os\nif os.fork() == 0:\n    def f(x): return 2\n    def g(): return 0.5\n"
            "else:\n    def f(x): return 9\n",
            SUITE,
            "fail",
            (1, 0),
        ),
    ],
)
def test_suites(
    sandbox: Sandbox, program: str, tests: str, status: str, counts: tuple[int, int]
) -> None:
    result = sandbox.run_suite(program, tests)
    assert result.status == status, result
    assert result.in_process
    if status != "error":
        assert (result.num_run, result.num_passed) == counts
