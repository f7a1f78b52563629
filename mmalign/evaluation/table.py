"""Right and wrong per unit, and the metrics that follow from any weighting of the units."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmalign.errors import ConfigError, RecordError

__all__ = ["Table", "estimates", "side_by_side"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """One row per unit that is drawn as a whole: a question, or a pair of questions."""

    units: tuple[str, ...]
    """Ids of questions or of pairs."""
    strata: tuple[str, ...]
    """The part of the data set that each unit is from; draws keep its size."""
    columns: Mapping[str, Floats]
    """[U] each, in [0, 1] or a count; metrics are weighted means of columns, in percent."""
    means: tuple[str, ...]
    """Columns that are reported, over all units and per group."""
    groups: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    """[U] each: who belongs to a part that is reported by itself; by default the strata."""
    over: tuple[str, ...] | None = None
    """Groups whose unweighted mean is the metric over all; None weighs all units alike."""
    ratios: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Metrics that are a sum of one column over a sum of another, in percent."""
    further: Callable[[Floats], Mapping[str, Floats]] | None = None
    """Metrics that are neither: from weights [R, U], values in [0, 1], [R] each."""
    macro: str = ""
    """Name of a further metric: the unweighted mean over groups of the first of `means`."""

    def members(self) -> Mapping[str, npt.NDArray[np.bool_]]:
        """Who belongs to which group."""
        strata = np.asarray(self.strata)
        return self.groups or {name: strata == name for name in dict.fromkeys(self.strata)}


def side_by_side(first: Table, second: Table, where: str) -> Table:
    """The columns of two tables about the same units; what weighs them is the first one's.

    Raises:
        ConfigError: The units differ, or a metric over all is a mean over groups; begins with
            `where`.
    """
    if first.units != second.units or first.over is not None or second.over is not None:
        raise ConfigError(
            f"{where} counts {len(first.units)} units, not each of {len(second.units)} questions "
            f"alike; use a metric that does, as exact_match or multiple_choice"
        )
    return replace(
        first,
        columns={**first.columns, **second.columns},
        means=(*first.means, *second.means),
        ratios={**first.ratios, **second.ratios},
    )


def estimates(table: Table, weights: npt.NDArray[Any]) -> dict[str, Floats]:
    """All metrics in percent, [R] each; those of a group are named `group/metric`.

    Args:
        table: Outcomes per unit.
        weights: [R, U], how often each unit counts in each of R draws.

    Raises:
        RecordError: The table is empty.
    """
    if not table.units:
        raise RecordError("there are no items to score")
    members = table.members()
    found: dict[str, Floats] = {}
    for name in table.means:
        column = table.columns[name]
        by_group = {group: _mean(column, weights, inside) for group, inside in members.items()}
        if table.over is None:
            found[name] = _mean(column, weights, np.ones(len(table.units), dtype=bool))
        else:
            found[name] = _average([by_group[group] for group in table.over])
        found |= {f"{group}/{name}": value for group, value in by_group.items()}
    if table.macro:
        first = table.means[0]
        found[table.macro] = _average([found[f"{group}/{first}"] for group in members])
    for name, (part, whole) in table.ratios.items():
        below = weights @ table.columns[whole]
        above = weights @ table.columns[part]
        # nothing went wrong: none of it went wrong in this way
        found[name] = 100 * np.divide(above, below, out=np.zeros_like(below), where=below != 0)
    if table.further is not None:
        found |= {name: 100 * values for name, values in table.further(weights).items()}
    return found


def _mean(column: Floats, weights: npt.NDArray[Any], inside: npt.NDArray[np.bool_]) -> Floats:
    chosen = weights[:, inside]
    mean: Floats = 100 * (chosen @ column[inside]) / chosen.sum(axis=1)
    return mean


def _average(values: Sequence[Floats]) -> Floats:
    average: Floats = np.mean(np.stack(values), axis=0)
    return average
