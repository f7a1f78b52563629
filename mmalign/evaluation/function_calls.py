"""Is a written function call right: BFCL's comparison of syntax trees, for Python calls.

Source: Berkeley Function-Calling Leaderboard (Patil et al., 2025), its rules for one turn. Left
out: its conversions of Java and JavaScript values, and conversations of several turns.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["FunctionCall", "call_problem", "calls_problem", "read_calls"]

_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "number": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "object": dict,
    "any": str,
}
_IGNORED = re.compile(r"[ ,./\-_*^]")
_FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)


class FunctionCall(NamedTuple):
    """A call with its arguments by name."""

    name: str
    arguments: dict[str, Any]


def read_calls(text: str) -> list[FunctionCall] | None:
    """The calls that a text consists of, as `[add(a=1), sub(a=2, b=3)]`, brackets or not.

    Names that are no literals are taken as texts, as variables of a program.

    Returns:
        None where the text is anything else, a call with arguments without names included.
    """
    bare = text.strip()
    if fenced := _FENCE.match(bare):
        bare = fenced[1]
    bare = bare.strip("`\n ")
    if not bare.startswith("["):
        bare = f"[{bare}"
    if not bare.endswith("]"):
        bare = f"{bare}]"
    try:
        tree = ast.parse(bare, mode="eval").body
        assert isinstance(tree, ast.List)
        return [_call(node) for node in tree.elts]
    except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError):
        return None


def calls_problem(
    calls: Sequence[FunctionCall],
    gold: Sequence[Mapping[str, Mapping[str, Sequence[Any]]]],
    functions: Sequence[Mapping[str, Any]],
) -> str | None:
    """What is wrong with calls whose order is free; None where nothing is.

    Gold calls are matched one after the other, each to the first call left that fits.

    Args:
        calls: As they were written.
        gold: Each {name: {argument: acceptable values}}; "" among these: it may be left out.
        functions: What was offered: `name`, and `parameters` with `properties` and `required`.
    """
    if len(calls) != len(gold):
        return f"{len(calls)} calls, expected {len(gold)}"
    offered = {function["name"]: function for function in functions}
    left = list(calls)
    for wanted in gold:
        ((name, acceptable),) = wanted.items()
        problems = [call_problem(call, acceptable, offered[name]) for call in left]
        if None not in problems:
            return f"no call fits {name}: {'; '.join(filter(None, problems))}"
        left.pop(problems.index(None))
    return None


def call_problem(
    call: FunctionCall, acceptable: Mapping[str, Sequence[Any]], function: Mapping[str, Any]
) -> str | None:
    """What is wrong with one call; None where nothing is.

    Args:
        call: As it was written.
        acceptable: Values of each argument; "" among them: it may be left out.
        function: The one that should be called.
    """
    parameters = function["parameters"]
    known: Mapping[str, Mapping[str, Any]] = parameters["properties"]
    if call.name != function["name"]:
        return f"calls {call.name}"
    for name in parameters.get("required", ()):
        if name not in call.arguments:
            return f"lacks {name}"
    for name, value in call.arguments.items():
        if name not in known or name not in acceptable:
            return f"has an unexpected {name}"
        if problem := _value_problem(value, acceptable[name], known[name]):
            return f"{name}: {problem}"
    for name, values in acceptable.items():
        if name not in call.arguments and "" not in values:
            return f"lacks {name}"
    return None


def _value_problem(
    value: Any, acceptable: Sequence[Any], declared: Mapping[str, Any]
) -> str | None:
    kind = _TYPES.get(str(declared.get("type", "any")).lower(), str)
    if kind is float and type(value) is int:
        value = float(value)
    if isinstance(value, tuple):
        value = list(value)
    gold_type = next((type(one) for one in acceptable if one != ""), None)
    if type(value) is kind:
        is_typed = _items_fit(value, acceptable, declared)
    else:
        is_typed = type(value) is gold_type  # as of a variable
    if not is_typed:
        return f"{value!r} is no {declared.get('type')}"
    fits = any(_same(value, one) for one in acceptable)
    return None if fits else f"{value!r} is none of {list(acceptable)!r}"


def _items_fit(value: Any, acceptable: Sequence[Any], declared: Mapping[str, Any]) -> bool:
    """One level of item types; items that are of a gold value's types are fine as well."""
    item_type = (declared.get("items") or {}).get("type")
    if not isinstance(value, list) or item_type is None:
        return True
    kind = _TYPES.get(str(item_type).lower(), str)
    types = {kind, int} if kind is float else {kind}
    found = {type(item) for item in value}
    return found <= types or any(
        isinstance(one, list) and found <= {type(item) for item in one} for one in acceptable
    )


def _same(value: Any, gold: Any) -> bool:
    """Equal, but for the spelling of texts; a dictionary's gold values are lists of them."""
    if isinstance(value, str) and isinstance(gold, str):
        return _standard(value) == _standard(gold)
    if isinstance(value, list) and isinstance(gold, list):
        return len(value) == len(gold) and all(
            _same(one, other) for one, other in zip(value, gold, strict=True)
        )
    if isinstance(value, dict) and isinstance(gold, dict):
        return (
            value.keys() <= gold.keys()
            and all(any(_same(value[key], one) for one in _choices(gold[key])) for key in value)
            and all("" in _choices(gold[key]) for key in gold.keys() - value.keys())
        )
    return isinstance(value, bool) == isinstance(gold, bool) and bool(value == gold)


def _choices(gold: Any) -> list[Any]:
    """A value inside a gold dictionary is a list of acceptable ones, or the only one."""
    return gold if isinstance(gold, list) else [gold]


def _standard(text: str) -> str:
    """Without blanks and , . / - _ * ^, in lower case, with one kind of quotation mark."""
    return _IGNORED.sub("", text).lower().replace("'", '"')


def _call(node: ast.expr) -> FunctionCall:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call with named arguments")
    arguments = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError("an argument without a name")
        arguments[keyword.arg] = _literal(keyword.value)
    return FunctionCall(ast.unparse(node.func), arguments)


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {
                _literal(key): _literal(value)
                for key, value in zip(keys, values, strict=True)
                if key is not None
            }
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
