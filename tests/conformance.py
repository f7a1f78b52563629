"""Feeds golden cases to the project's own functions and compares every number.

python tests/conformance.py            checks tests/golden/
python tests/conformance.py FILE.json  prints the outputs for a list of {"method", "case"}

A method is done when tests/adapters/ has a module for it, whose `evaluate` takes a case and
returns everything that the golden file expects.
"""

import json
import math
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmalign.testing.golden import golden_cases

GOLDEN = Path(__file__).parent / "golden"
ADAPTERS = Path(__file__).parent / "adapters"


def evaluate(slug: str, case: Mapping[str, Any]) -> dict[str, Any]:
    """Every output that the method's golden file expects; empty for an unknown method."""
    name = slug.replace("-", "_")
    if not (ADAPTERS / f"{name}.py").exists():
        return {}
    found: dict[str, Any] = _plain(import_module(f"adapters.{name}").evaluate(case))
    return found


def done() -> list[str]:
    """The slugs of the methods that are done."""
    return sorted(path.stem.replace("_", "-") for path in ADAPTERS.glob("*.py"))


def disagreements(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where two nested values differ: numbers by 1e-9 and 1e-12, all else exactly."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or expected.keys() != found.keys():
            names = sorted(found) if isinstance(found, dict) else found
            return [f"{path}: expected the keys {sorted(expected)}, found {names}"]
        parts = [(expected[key], found[key], f"{path}.{key}") for key in expected]
    elif isinstance(expected, list):
        if not isinstance(found, list) or len(expected) != len(found):
            return [f"{path}: expected a list of {len(expected)}, found {found}"]
        parts = [
            (e, f, f"{path}[{i}]") for i, (e, f) in enumerate(zip(expected, found, strict=True))
        ]
    elif isinstance(expected, float) and isinstance(found, int | float):
        close = math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-12)
        return [] if close else [f"{path}: expected {expected!r}, found {found!r}"]
    else:
        same = type(expected) is type(found) and expected == found
        return [] if same else [f"{path}: expected {expected!r}, found {found!r}"]
    return [line for part in parts for line in disagreements(*part)]


def check(folder: Path) -> tuple[list[str], list[str]]:
    """The methods that agree in all keys, and what is wrong with those that do not."""
    agreeing, problems = [], []
    slugs = {path.stem for path in folder.glob("*.json")}
    for slug in sorted(slugs):
        lines = [
            line
            for number, (case, expected) in enumerate(golden_cases(folder / f"{slug}.json"))
            for line in disagreements(expected, evaluate(slug, case), f"{slug}[{number}]")
        ]
        if not lines:
            agreeing.append(slug)
        elif slug in done():
            problems += lines
    missing = sorted(set(done()) - slugs)
    return agreeing, problems + [f"{slug}: done, but has no golden file" for slug in missing]


def main(arguments: list[str]) -> int:
    if arguments:
        asked = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        print(json.dumps([evaluate(item["method"], item["case"]) for item in asked]))
        return 0
    agreeing, problems = check(GOLDEN)
    total = len(list(GOLDEN.glob("*.json")))
    print(f"{len(agreeing)} of {total} methods agree in all keys: {', '.join(agreeing)}")
    for line in problems:
        print(line, file=sys.stderr)
    return 1 if problems else 0


def _plain(value: Any) -> Any:
    """Tensors, arrays, tuples and the like as JSON's numbers and lists."""
    match value:
        case Tensor():
            return value.detach().tolist()
        case np.ndarray() | np.generic():
            return value.tolist()
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
