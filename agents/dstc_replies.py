"""Programs and tests out of what a model says; what cannot be read is counted, never run."""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mmalign.api import Completion, test_problem

__all__ = [
    "Candidates",
    "FunctionNamed",
    "UnreadableError",
    "fenced_block",
    "name_function",
    "read_all",
    "read_program",
    "read_test",
]

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n`]*$", re.MULTILINE)
_NUM_EXAMPLES = 3
_EXAMPLE_CHARS = 200


class UnreadableError(ValueError):
    """A reply that holds no program or test; `args[0]` is the reason's code."""


class FunctionNamed(NamedTuple):
    """The function that tests call."""

    name: str
    signature: str
    """The name, with its parameters where they are known."""


class Candidates(NamedTuple):
    """What a model's replies held."""

    texts: tuple[str, ...]
    """Different programs or tests, in the order of the draws."""
    counts: dict[str, int]
    """`num_drawn`, `num_kept`, and how many were lost for each reason."""
    examples: list[dict[str, str]]
    """The beginning of up to three replies of each reason."""


def read_all(completions: Sequence[Completion], read: Callable[[str], str]) -> Candidates:
    """What can be read, each program or test once, whatever its white space and comments."""
    kept: dict[str, str] = {}
    lost: Counter[str] = Counter()
    examples: list[dict[str, str]] = []
    for completion in completions:
        try:
            text = read(completion.text)
            form = _form(text)
            if form in kept:
                raise UnreadableError("duplicate")
        except UnreadableError as problem:
            reason = str(problem)
            lost[reason] += 1
            if lost[reason] <= _NUM_EXAMPLES:
                examples.append({"reason": reason, "text": completion.text[:_EXAMPLE_CHARS]})
        else:
            kept[form] = text
    counts = {"num_drawn": len(completions), "num_kept": len(kept), **lost}
    return Candidates(tuple(kept.values()), counts, examples)


def fenced_block(reply: str) -> str:
    """The first fenced block of a reply, without its fences.

    Raises:
        UnreadableError: `no_block`, or `truncated` where the block is never closed.
    """
    reply = reply.replace("\r\n", "\n").replace("\r", "\n")
    fences = list(_FENCE.finditer(reply))
    if not fences:
        raise UnreadableError("no_block")
    opening = fences[0]
    for fence in fences[1:]:
        closes = fence.group().strip() == fence.group(1)  # a closing fence names no language
        if closes and fence.group(1).startswith(opening.group(1)):
            return reply[opening.end() + 1 : fence.start()].rstrip()
    raise UnreadableError("truncated")


def read_program(reply: str, entry_point: str) -> str:
    """The program of a reply, without what it would do if it were run as a script.

    Raises:
        UnreadableError: `no_block`, `truncated`, `syntax_error`, or `no_entry_point` where it
            defines no function of that name.
    """
    source = fenced_block(reply)
    if entry_point not in _functions(_parsed(source)):
        raise UnreadableError("no_entry_point")
    return _without_script(source, entry_point)


def read_test(reply: str, entry_point: str) -> str:
    """The test of a reply.

    Raises:
        UnreadableError: `no_block`, `truncated`, `syntax_error`; `no_assert` or `no_call` where
            nothing is asserted about a call of the function, or of one that the test brings along.
    """
    source = _without_script(fenced_block(reply), entry_point)
    if (problem := test_problem(source, entry_point)) is not None:
        raise UnreadableError(problem)
    return source


def name_function(reply: str) -> FunctionNamed:
    """The function of a program that no other function of it calls; the first of several.

    Raises:
        UnreadableError: As for a program; `no_entry_point` where it defines no function.
    """
    functions = _functions(_parsed(fenced_block(reply)))
    called = {
        node.func.id
        for name, function in functions.items()
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id != name
    }
    for name, function in functions.items():
        if name not in called:
            return FunctionNamed(name, f"{name}({ast.unparse(function.args)})")
    raise UnreadableError("no_entry_point")


def _form(source: str) -> str:
    """The same for two sources that differ in white space, comments and quotes alone."""
    try:
        return ast.dump(_parsed(source))
    except RecursionError as error:
        raise UnreadableError("syntax_error") from error


def _parsed(source: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about code that is not ours
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnreadableError("syntax_error") from error


def _functions(tree: ast.Module) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in tree.body if isinstance(node, functions)}


def _without_script(source: str, entry_point: str) -> str:
    """The source without `if __name__` blocks, prints beside functions, imports of the function."""
    body = _parsed(source).body
    lines_of: dict[bool, set[int]] = {True: set(), False: set()}
    for node in body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        numbers = range(first, (node.end_lineno or first) + 1)
        lines_of[_is_script(node, entry_point)].update(numbers)
    goes = lines_of[True] - lines_of[False]
    lines = source.split("\n")
    kept = (line for number, line in enumerate(lines, start=1) if number not in goes)
    return "\n".join(kept).strip("\n")


def _is_script(node: ast.stmt, entry_point: str) -> bool:
    if isinstance(node, ast.If):
        return any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test))
    if isinstance(node, ast.ImportFrom):
        return any((alias.asname or alias.name) == entry_point for alias in node.names)
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "print"
    )
