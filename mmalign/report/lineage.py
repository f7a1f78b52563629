"""What training made of each kind of pair: the trainer's lineage-keyed metrics as a table."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mmalign.records import PreferencePair

__all__ = ["LineageRow", "view_lineage"]

_KEYED = re.compile(r"^(?:train/)?lineage/(?P<key>[^/=]+)=(?P<value>[^/]*)/(?P<metric>.+)$")
_MAX_VALUES = 24


@dataclass(frozen=True)
class LineageRow:
    """Pairs that share one value of one lineage key."""

    key: str
    value: str
    num_pairs: int
    losses: tuple[float, ...]
    """Over the logged steps; empty where training has not run."""
    accuracies: tuple[float, ...]
    margins: tuple[float, ...]
    weight: float | None = None
    """Mean weight of the pairs that carry one."""

    @property
    def loss(self) -> float | None:
        """Mean over the last quarter of the log."""
        return _late_mean(self.losses)

    @property
    def accuracy(self) -> float | None:
        """Share of pairs with the chosen side ahead, mean over the last quarter of the log."""
        return _late_mean(self.accuracies)

    @property
    def margin(self) -> float | None:
        """Reward of the chosen side minus that of the rejected one, over the last quarter."""
        return _late_mean(self.margins)


def view_lineage(
    pairs: Sequence[PreferencePair], log: Sequence[Mapping[str, Any]]
) -> tuple[LineageRow, ...]:
    """One row per key and value, found among the pairs' tags or in the trainer's log."""
    counts: Counter[tuple[str, str]] = Counter()
    weights: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in pairs:
        counts.update(pair.lineage.tags.items())
        weight = pair.metadata.get("weight")
        if isinstance(weight, int | float):
            for item in pair.lineage.tags.items():
                weights[item].append(float(weight))
    series: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in log:
        for name, value in row.items():
            match = _KEYED.match(name)
            if match and isinstance(value, int | float) and math.isfinite(value):
                series[match["key"], match["value"]][match["metric"]].append(float(value))
    values_of: Counter[str] = Counter(key for key, _ in {*counts, *series})
    rows = [
        LineageRow(
            key=key,
            value=value,
            num_pairs=counts[key, value],
            losses=tuple(series[key, value]["loss_per_pair"] or series[key, value]["loss"]),
            accuracies=tuple(series[key, value]["rewards/accuracies"]),
            margins=tuple(series[key, value]["rewards/margins"]),
            weight=fmean(found) if (found := weights[key, value]) else None,
        )
        for key, value in {*counts, *series}
        if values_of[key] <= _MAX_VALUES
    ]
    return tuple(sorted(rows, key=lambda row: (row.key, -row.num_pairs, row.value)))


def _late_mean(values: Sequence[float]) -> float | None:
    late = values[-max(1, len(values) // 4) :] if values else ()
    return sum(late) / len(late) if late else None
