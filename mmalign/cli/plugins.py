"""Finds the agents, readers and tools beside the engine without importing them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mmalign

__all__ = ["FoundPlugin", "agents", "readers", "tools"]


class FoundPlugin(NamedTuple):
    """A function that a recipe can name."""

    name: str
    path: str
    """`package.module:function`."""
    about: str
    """First line of the module's docstring, or of a tool's."""


def agents() -> list[FoundPlugin]:
    """Modules of mmalign.agents with a function `build_graph`."""
    return list(_modules_with("agents", "build_graph"))


def readers() -> list[FoundPlugin]:
    """Modules of mmalign.datasets with a function `read`."""
    return list(_modules_with("datasets", "read"))


def tools() -> list[FoundPlugin]:
    """Public functions with the decorator `tool` in mmalign.tools."""
    return [
        FoundPlugin(node.name, f"{module}:{node.name}", _first_line(node))
        for module, tree in _modules("tools")
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any("tool" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]


def _modules_with(folder: str, function: str) -> Iterator[FoundPlugin]:
    for module, tree in _modules(folder):
        if any(getattr(node, "name", None) == function for node in tree.body):
            name = module.removeprefix(f"mmalign.{folder}.")
            yield FoundPlugin(name, f"{module}:{function}", _first_line(tree))


def _modules(folder: str) -> Iterator[tuple[str, ast.Module]]:
    root = Path(mmalign.__file__).parent
    for path in sorted((root / folder).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        names = parts[:-1] if parts[-1] == "__init__" else parts
        yield ".".join(("mmalign", *names)), ast.parse(path.read_text(encoding="utf-8"))


def _first_line(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]
