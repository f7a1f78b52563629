"""The program in a model's answer. Nothing is run here: the text is only parsed.

Source: EvalPlus (Liu et al., 2023), its sanitiser. Which of several fenced blocks is meant, and
that a `try` or `if` which binds a needed name is kept, is mmalign's reading.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["before_stops", "fenced_code", "longest_valid_block", "sanitise"]

_FENCE = re.compile(r"^\s*(```+|~~~+)\s*([\w.+-]*)")
_PYTHON = ("", "python", "python3", "py")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def before_stops(text: str, stops: Sequence[str]) -> str:
    """The text before the first place where one of the stop sequences begins."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def fenced_code(answer: str, entry_points: Sequence[str]) -> str:
    """The last fenced block that defines an entry point, else the first block, else all.

    The last one, because a corrected program stands behind its draft. A block that is not closed
    ends with the answer.
    """
    blocks = list(_blocks(answer))
    blocks = [block for block in blocks if block.language in _PYTHON] or blocks
    names = "|".join(map(re.escape, entry_points))
    definition = re.compile(rf"^(?:(?:async\s+)?def|class)\s+(?:{names})\b|^(?:{names})\s*=", re.M)
    for block in reversed(blocks):
        if definition.search(block.text):
            return block.text
    return blocks[0].text if blocks else answer


def sanitise(text: str, entry_points: Sequence[str], *, drop_without_return: bool = False) -> str:
    """The longest valid block of lines, without what the entry points do not need.

    Of the top level stay imports, and what binds a name that an entry point uses, directly or
    through others. Where no entry point is defined, the block stays whole.

    Args:
        text: Python, perhaps with other text around it.
        entry_points: Names that tests call.
        drop_without_return: Leave out functions that have no `return`, as EvalPlus does; helpers
            that yield or work in place are lost by it.
    """
    block = longest_valid_block(text)
    statements = _parse(block).body
    bound = [_bound_names(node) for node in statements]
    needed = _reachable(statements, bound, entry_points)
    if not needed & set(entry_points):
        return block or text
    lines = block.split("\n")
    kept: set[int] = set()
    for node, names in zip(statements, bound, strict=True):
        stays = isinstance(node, ast.Import | ast.ImportFrom) or bool(names & needed)
        if drop_without_return and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            stays = stays and any(isinstance(part, ast.Return) for part in ast.walk(node))
        if stays:
            decorators = node.decorator_list if isinstance(node, _DEFINITIONS) else []
            first = min([node.lineno, *(part.lineno for part in decorators)])
            kept.update(range(first - 1, node.end_lineno or first))
    return "\n".join(lines[place] for place in sorted(kept)) or block


def longest_valid_block(text: str) -> str:
    """The lines in a row that parse as Python and have the most lines with text; the first such.

    A parser's error at a line tells that no block from the same start reaches past it, so that
    few blocks are tried.
    """
    readable = (
        text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")
    )
    lines = readable.encode("utf-8", "replace").decode("utf-8").split("\n")
    best, most = "", 0
    for start, line in enumerate(lines):
        if not line.strip() or line[0].isspace():
            continue  # no statement begins here
        end = len(lines)
        while (size := sum(bool(part.strip()) for part in lines[start:end])) > most:
            block = "\n".join(lines[start:end])
            failed = _first_error(block)
            if failed is None:
                best, most = block, size
            else:
                end = min(end - 1, start + failed - 1)
    return best


class _Block(NamedTuple):
    language: str
    text: str


def _blocks(answer: str) -> Iterator[_Block]:
    fence, language, inside = "", "", list[str]()
    for line in answer.splitlines():
        match = _FENCE.match(line)
        if not fence and match:
            fence, language, inside = match[1], match[2].lower(), []
        elif fence and match and match[1].startswith(fence) and not match[2]:
            yield _Block(language, textwrap.dedent("\n".join(inside)))
            fence = ""
        elif fence:
            inside.append(line)
    if fence:
        yield _Block(language, textwrap.dedent("\n".join(inside)))


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in the model's strings
        return ast.parse(source)


def _first_error(source: str) -> int | None:
    """The line, from 1, at which the source stops being Python; None where all of it is."""
    try:
        _parse(source)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):  # nested beyond what the parser takes
        return 1
    return None


def _bound_names(node: ast.stmt) -> set[str]:
    """Names that a statement of the top level gives a value."""
    if isinstance(node, _DEFINITIONS):
        return {node.name}
    if isinstance(node, ast.Expr) or _is_main_guard(node):
        return set()
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif isinstance(part, _DEFINITIONS):
            names.add(part.name)
        elif isinstance(part, ast.alias):
            names.add((part.asname or part.name).partition(".")[0])
    return names


def _is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
    )


def _reachable(
    statements: Sequence[ast.stmt], bound: Sequence[set[str]], entry_points: Sequence[str]
) -> set[str]:
    """The entry points that are bound, and every bound name that they use at any remove."""
    uses: dict[str, set[str]] = {}
    for node, names in zip(statements, bound, strict=True):
        used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        for name in names:
            uses.setdefault(name, set()).update(used)
    found: set[str] = set()
    waiting = [name for name in entry_points if name in uses]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [used for used in uses[name] if used in uses]
    return found
