"""Code is executed by what runs inside a sandbox and nowhere else in the project."""

import ast
from pathlib import Path

PROJECT = Path(__file__).parents[2]
FOLDERS = ("mmalign", "agents", "tools", "datasets", "benchmarks", "examples")
INSIDE = ("roles/program.py", "roles/judge.py", "roles/candidate.py", "roles/suite.py")
OF_OUR_OWN = ("worker.py", "remote_harness.py")
"""They execute the roles' own text, inside a sandbox too."""
OWN_TEMPLATES = PROJECT / "datasets/programs/tasks.py"
"""Computes answers by programs that stand in it; no model wrote them."""
ALLOWED = {PROJECT / "mmalign/sandbox" / name for name in (*INSIDE, *OF_OUR_OWN)}


def executions(path: Path) -> list[int]:
    """Lines that call exec or eval by name."""
    tree = ast.parse(path.read_text())
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("exec", "eval")
    ]


def test_nothing_is_executed_outside_the_sandbox() -> None:
    found = {
        str(path.relative_to(PROJECT)): lines
        for folder in FOLDERS
        for path in (PROJECT / folder).rglob("*.py")
        if path.resolve() not in {*ALLOWED, OWN_TEMPLATES} and (lines := executions(path))
    }
    assert found == {}


def test_the_roles_are_the_ones_that_execute() -> None:
    assert all(executions(path) for path in ALLOWED)
