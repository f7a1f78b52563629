"""Functions that share their body, or that are too long to be read at once.

python -m mmalign.testing.bodies FOLDER ...   names them, and fails if there are any
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["main", "problems"]

_MIN_NODES = 40
"""Smaller bodies are alike by chance."""
_MAX_LINES = 60
"""Without the docstring."""


def main(folders: Sequence[str]) -> int:
    """Print what is wrong below the folders; 1 if anything is."""
    found = problems([path for folder in folders for path in sorted(Path(folder).rglob("*.py"))])
    print("\n".join(found) or "no two functions share their body, none is too long")
    return 1 if found else 0


def problems(paths: Sequence[Path]) -> list[str]:
    """One sentence for every group of functions with one body, and for every long function.

    Two bodies are one if they differ in local names and docstrings only.

    Args:
        paths: Python files; a file that is reached twice, through a link, counts once.
    """
    bodies: dict[str, list[str]] = defaultdict(list)
    found = []
    for path in {path.resolve(): path for path in paths}.values():
        for function in _functions(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path}:{function.lineno} {function.name}"
            statements = _without_docstring(function)
            if not statements:
                continue
            num_lines = (statements[-1].end_lineno or 0) - statements[0].lineno + 1
            if num_lines > _MAX_LINES:
                found.append(f"{where}: {num_lines} lines, at most {_MAX_LINES}; split it")
            if sum(1 for statement in statements for _ in ast.walk(statement)) >= _MIN_NODES:
                bodies[_shape(function, statements)].append(where)
    for places in bodies.values():
        if len(places) > 1:
            found.append(f"one body, several functions: {'; '.join(places)}. Keep one, call it")
    return found


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    has_docstring = ast.get_docstring(function, clean=False) is not None
    return function.body[1:] if has_docstring else function.body


def _shape(function: ast.FunctionDef | ast.AsyncFunctionDef, statements: Sequence[ast.stmt]) -> str:
    """The body with arguments and assigned names numbered in their order."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    local = {name: f"_{place}" for place, name in enumerate(names)}
    copies = ast.parse(ast.unparse(ast.Module(list(statements), [])))
    for node in ast.walk(copies):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            local.setdefault(node.id, f"_{len(local)}")
    for node in ast.walk(copies):
        if isinstance(node, ast.Name):
            node.id = local.get(node.id, node.id)
    return ast.dump(copies)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
