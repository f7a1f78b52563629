"""The calculator: values, and everything that it must not do."""

import asyncio

import pytest

from mmalign.api import RolloutTool, ToolError, invoke_tool
from mmalign.tools.calculator import calculator, evaluate


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2 + 2", "4"),
        ("7 / 2", "3.5"),
        ("6 / 2", "3"),
        ("2 ^ 10 - 1", "1023"),
        ("-(3 - 5) * 4 % 5", "3"),
        ("sqrt(2)", "1.41421356237"),
        ("max(1, 2.5, 2) // 1", "2"),
        ("3 × 4 ÷ 6", "2"),
        ("10 ** 40", "1" + "0" * 40),
        ("-" * 200 + "1", "1"),
        ("*".join(["9" * 90] * 10), str((10**90 - 1) ** 10)),
    ],
)
def test_values(expression: str, expected: str) -> None:
    said = asyncio.run(
        invoke_tool({"c": RolloutTool(calculator())}, "c", {"expression": expression})
    )
    assert (said.outcome, said.text) == ("ok", expected)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("__import__('os').system('true')", "no number, operator or function"),
        ("().__class__", "no number, operator or function"),
        ("open('x')", "no number, operator or function"),
        ("'a' * 9", "no number, operator or function"),
        ("True + 1", "no number, operator or function"),
        ("9 ** 9 ** 9", "too large"),
        ("10.0 ** 400", "has no value"),
        ("9" * 501 + "*" + "9" * 499, "at most 1000"),
        ("(-8) ** 0.5", "no real number"),
        ("1 / 0", "has no value: division by zero"),
        ("sqrt(-1)", "has no value"),
        ("two + 2", "no number"),
        ("2 +", "no expression of numbers"),
        ("(" * 400, "no expression|has no value"),
        ("1e308 * 10", "out of range"),
        ("1e999", "out of range"),
    ],
)
def test_what_is_refused(expression: str, why: str) -> None:
    with pytest.raises(ToolError, match=why):
        evaluate(expression)
