"""Golden cases: expected numbers that were computed independently of this project."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["GoldenCase", "golden_cases", "t64"]


class GoldenCase(NamedTuple):
    """One case of a golden file."""

    case: dict[str, Any]
    expected: dict[str, Any]


def golden_cases(path: Path) -> list[GoldenCase]:
    """The cases of a golden file, in order.

    Args:
        path: A JSON list of `{"case": {...}, "expected": {...}}`.
    """
    records = json.loads(path.read_text(encoding="utf-8"))
    return [GoldenCase(record["case"], record["expected"]) for record in records]


def t64(values: Any, *, requires_grad: bool = False) -> Tensor:
    """Nested lists as a float64 tensor, in which golden numbers are compared."""
    return torch.tensor(values, dtype=torch.float64, requires_grad=requires_grad)
