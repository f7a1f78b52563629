"""Compare what was measured before the alignment with what was measured after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmalign.report.run_folder import Arm

__all__ = ["Axis", "Comparison", "Estimate", "MetricRow", "axis_of", "compare"]

_FIRST_METRICS = ("overall", "basic", "hallucinated")
_COUNTS = frozenset({"calls", "cost"})
"""Of a hundred questions: no share of them, and more is not better."""


@dataclass(frozen=True)
class Estimate:
    """One measured percentage; the interval is None where none was stored."""

    arm: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class MetricRow:
    """One metric over all arms that have it."""

    name: str
    estimates: tuple[Estimate, ...]

    @property
    def difference(self) -> float | None:
        """Last arm minus first, in percentage points."""
        if len(self.estimates) < 2:
            return None
        return self.estimates[-1].value - self.estimates[0].value


@dataclass(frozen=True)
class Comparison:
    """All arms side by side, over all items and per subset."""

    arms: tuple[str, ...]
    metric: str
    overall: tuple[MetricRow, ...]
    subsets: Mapping[str, tuple[MetricRow, ...]]
    counts: Mapping[str, Mapping[str, object]]

    @property
    def main(self) -> MetricRow | None:
        """The row of the metric that the run is judged by."""
        return next((row for row in self.overall if row.name == self.metric), None)

    @property
    def shares(self) -> tuple[MetricRow, ...]:
        """Rows that are shares of right answers, so that more is better.

        These are measured per subset too; measures of bias are not, and stand in the table only.
        """
        names = {row.name for rows in self.subsets.values() for row in rows} | {self.metric}
        return tuple(row for row in self.overall if row.name in names - _COUNTS)


def compare(arms: Mapping[str, Arm]) -> Comparison | None:
    """The arms' metrics in one table, or None where nothing was evaluated."""
    if not arms:
        return None
    last = list(arms.values())[-1]
    subsets = dict.fromkeys(subset for arm in arms.values() for subset in arm.subsets)
    return Comparison(
        arms=tuple(arms),
        metric=last.metric,
        overall=_rows(
            {name: (arm.metrics, arm.intervals) for name, arm in arms.items()}, last.metric
        ),
        subsets={
            subset: _rows(
                {
                    name: (arm.subsets.get(subset, {}), arm.subset_intervals.get(subset, {}))
                    for name, arm in arms.items()
                },
                last.metric,
            )
            for subset in subsets
        },
        counts={name: arm.counts for name, arm in arms.items()},
    )


def _rows(
    measured: Mapping[str, tuple[Mapping[str, float], Mapping[str, tuple[float, float]]]],
    metric: str,
) -> tuple[MetricRow, ...]:
    names = dict.fromkeys(name for values, _ in measured.values() for name in values)
    rows = []
    for name in sorted(names, key=lambda name: _rank(name, metric, tuple(names))):
        estimates = []
        for arm, (values, intervals) in measured.items():
            if name in values:
                low, high = intervals.get(name, (None, None))
                estimates.append(Estimate(arm=arm, value=values[name], low=low, high=high))
        rows.append(MetricRow(name=name, estimates=tuple(estimates)))
    return tuple(rows)


def _rank(name: str, metric: str, names: Sequence[str]) -> tuple[int, int]:
    if name == metric:
        return (0, 0)
    if name in _FIRST_METRICS:
        return (1, _FIRST_METRICS.index(name))
    return (2, names.index(name))


@dataclass(frozen=True)
class Axis:
    """A horizontal scale of percentages for dots and intervals."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Place of a value, in percent of the width; values outside stop at the end."""
        return max(0.0, min(100.0, 100.0 * (value - self.low) / (self.high - self.low)))

    @property
    def ticks(self) -> tuple[float, ...]:
        """Four to eight round values from low to high."""
        step = 10 if self.high - self.low <= 60 else 20
        return tuple(
            float(tick) for tick in range(int(self.low), int(self.high) + 1) if tick % step == 0
        )


def axis_of(rows: Sequence[MetricRow]) -> Axis:
    """The range of tens that holds all values and intervals; at least 40 points wide."""
    values = [
        number
        for row in rows
        for estimate in row.estimates
        for number in (estimate.value, estimate.low, estimate.high)
        if number is not None
    ] or [0.0, 100.0]
    low, high = 10 * (min(values) // 10), 10 * -(-max(values) // 10)
    while high - low < 40:
        low, high = max(0.0, low - 10), min(100.0, high + 10)
    return Axis(low=max(0.0, low), high=min(100.0, high))
