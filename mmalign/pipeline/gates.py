"""What must come out of a proof, and whether it did."""

from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from mmalign.config import Config
from mmalign.evaluation import arm_result, paired_bootstrap
from mmalign.evaluation.table import Table

__all__ = ["Gate", "verdict"]


class Gate(Config):
    """One condition on an arm; all seeds together."""

    metric: str
    arm: str
    over: str | None = None
    """The arm that it is compared with; None asks for the arm alone."""
    margin: float | None = None
    """The lower 95 % bound of the difference must lie above it, in percentage points."""
    factor: float | None = Field(default=None, gt=0)
    """The mean must be at least so many times the other's."""
    above: float | None = None
    """The mean must lie above it."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        said = [name for name in ("margin", "factor", "above") if getattr(self, name) is not None]
        if len(said) != 1 or (self.over is None) != (said == ["above"]):
            raise ValueError(
                f"a gate has `above`, or `over` with either margin or factor; found over "
                f"{self.over!r} with {', '.join(said) or 'none of them'}"
            )
        return self


def verdict(gate: Gate, tables: Mapping[str, Sequence[Table]]) -> str:
    """One sentence that says whether the condition holds, and by which numbers.

    Args:
        gate: The condition.
        tables: Of every arm, one for each seed.
    """
    mean = arm_result(tables[gate.arm], gate.metric).mean
    if gate.over is None:
        assert gate.above is not None
        found = f"{gate.arm}, {gate.metric}: {mean:.1f}, wanted above {gate.above:g}"
        return _said(found, passed=mean > gate.above)
    compared = f"{gate.arm} against {gate.over}, {gate.metric}"
    if gate.factor is not None:
        other = arm_result(tables[gate.over], gate.metric).mean
        found = f"{compared}: {mean:.1f} against {other:.1f}, wanted {gate.factor:g} times as much"
        return _said(found, passed=mean >= gate.factor * other)
    assert gate.margin is not None
    low = paired_bootstrap(tables[gate.over], tables[gate.arm], gate.metric).low
    found = f"{compared}: lower bound of the difference {low:+.1f}, wanted above {gate.margin:g}"
    return _said(found, passed=low > gate.margin)


def _said(found: str, *, passed: bool) -> str:
    return f"gate {'passed' if passed else 'NOT passed'}: {found}"
