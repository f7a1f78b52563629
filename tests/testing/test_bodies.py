"""The check for bodies that are written twice."""

from pathlib import Path

import pytest

from mmalign.testing.bodies import main, problems

ONE = '''
def one(a, b):
    """What it says does not count."""
    total = a * b + 1
    for item in range(total):
        total = total + item * item - a / (b + item)
    return total, a, b
'''
SAME = """
def other(x, y):
    s = x * y + 1
    for i in range(s):
        s = s + i * i - x / (y + i)
    return s, x, y
"""


def test_bodies_that_differ_in_names_only_are_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text(ONE)
    (tmp_path / "b.py").write_text(SAME)
    (found,) = problems(sorted(tmp_path.glob("*.py")))
    assert found.startswith("one body, several functions: ")
    assert "a.py:2 one; " in found
    assert "b.py:2 other" in found
    assert main([str(tmp_path)]) == 1
    assert "several functions" in capsys.readouterr().out


def test_another_constant_is_another_body(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(ONE)
    (tmp_path / "b.py").write_text(SAME.replace("+ 1", "+ 2"))
    assert problems(sorted(tmp_path.glob("*.py"))) == []


def test_a_long_function_is_named(tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text("def long():\n" + "    print(1)\n" * 61)
    assert problems([path]) == [f"{path}:1 long: 61 lines, at most 60; split it"]
