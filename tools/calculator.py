"""Arithmetic on an expression that a model wrote; nothing of it is ever run as Python."""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from mmalign.api import ToolError

__all__ = ["calculator", "evaluate"]

_MOST_CHARACTERS = 1000
_MOST_BITS = 4096
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "max": max,
    "min": min,
    "round": round,
    "sqrt": math.sqrt,
}


def calculator() -> BaseTool:
    """A LangChain tool `calculator(expression)` that gives the bare number."""
    return StructuredTool.from_function(_calculate, name="calculator", parse_docstring=True)


def evaluate(expression: str) -> int | float:
    """The value of an expression of numbers, + - * / // % **, brackets and a few functions.

    Raises:
        ToolError: It is something else, too large, or has no value.
    """
    text = expression.strip().replace("^", "**").replace("×", "*").replace("÷", "/")
    if len(text) > _MOST_CHARACTERS:
        raise ToolError(f"the expression has {len(text)} characters, at most {_MOST_CHARACTERS}")
    try:
        value = _value(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        raise ToolError(f"{expression.strip()!r} is no expression of numbers") from error
    except (ArithmeticError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ToolError(f"{expression.strip()!r} has no value: {error}") from error
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _calculate(expression: str) -> str:
    """Calculate the value of an expression.

    Args:
        expression: Numbers with + - * / // % ** and brackets, and abs, max, min, round, sqrt.
    """
    value = evaluate(expression)
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _checked(number)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _checked(_power(_value(left), _value(right)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _checked(_BINARY[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _checked(_FUNCTIONS[name](*map(_value, args)))
    raise ToolError(f"{ast.unparse(node)!r} is no number, operator or function that is known")


def _power(base: float, exponent: float) -> Any:
    """Refused before it is computed: 9 ** 9 ** 9 would take all memory."""
    size = abs(base)
    if size > 1 and abs(exponent) * math.log2(size) > _MOST_BITS:
        raise ToolError(f"{base} ** {exponent} is too large")
    return base**exponent


def _checked(value: Any) -> Any:
    if isinstance(value, complex):
        raise ToolError(f"{value} is no real number")
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError("it is out of range")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ToolError("the value is too large")
    return value
