"""Intervals by drawing units again: of one arm, and of the difference of two."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmalign.errors import RecordError
from mmalign.evaluation.table import Table, estimates

__all__ = ["Difference", "Interval", "draw_weights", "intervals", "paired_bootstrap"]

_CHUNK = 250
"""Draws in memory at once."""


class Interval(NamedTuple):
    """The middle part of the draws, in percent or percentage points."""

    low: float
    high: float


class Difference(NamedTuple):
    """Second arm minus first, in percentage points."""

    value: float
    low: float
    high: float
    share_above_zero: float
    """Draws in which the second arm is better, in [0, 1]."""


def intervals(
    table: Table, *, num_draws: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Percentile intervals of every metric of a table.

    Units (pairs where pairs are scored) are drawn with replacement within their stratum, so
    that an average over strata stays one.

    Args:
        table: Outcomes per unit.
        num_draws: R.
        seed: The same seed gives the same interval.
        level: Share of the draws inside.
    """
    draws: dict[str, list[npt.NDArray[np.float64]]] = {}
    rng = np.random.default_rng(seed)
    for start in range(0, num_draws, _CHUNK):
        weights = draw_weights(table.strata, min(_CHUNK, num_draws - start), rng)
        for name, values in estimates(table, weights).items():
            draws.setdefault(name, []).append(values)
    return {name: _interval(np.concatenate(values), level) for name, values in draws.items()}


def paired_bootstrap(
    first: Sequence[Table],
    second: Sequence[Table],
    metric: str,
    *,
    num_draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """How much better the second arm is, drawing units and seeds; both arms see the same draw.

    Args:
        first: One table per seed; an arm without seeds (the base model) gives one.
        second: One table per seed of the other arm. Where both have several, the n-th of both
            are of one seed and drawn together.
        metric: A name of `estimates`.
        num_draws: R.
        seed: The same seed gives the same interval.
        level: Share of the draws inside.

    Raises:
        RecordError: The tables do not hold the same units in the same order, or the numbers of
            seeds do not fit.
    """
    reference = (*first, *second)[0]
    for table in (*first, *second):
        if table.units != reference.units or table.strata != reference.strata:
            raise RecordError("the arms were not scored on the same items in the same order")
    num_seeds = max(len(first), len(second))
    if not {len(first), len(second)} <= {1, num_seeds}:
        raise RecordError(
            f"one arm has {len(first)} seeds, the other {len(second)}; give both the same seeds, "
            f"or one of them a single table"
        )
    rng = np.random.default_rng(seed)
    drawn = []
    for start in range(0, num_draws, _CHUNK):
        num = min(_CHUNK, num_draws - start)
        weights = draw_weights(reference.strata, num, rng)
        seeds = rng.multinomial(num_seeds, [1 / num_seeds] * num_seeds, size=num) / num_seeds
        drawn.append(_difference(first, second, metric, weights, seeds))
    draws = np.concatenate(drawn)
    everything = np.ones((1, len(reference.units)))
    value = _difference(first, second, metric, everything, np.full((1, num_seeds), 1 / num_seeds))
    low, high = _interval(draws, level)
    return Difference(float(value[0]), low, high, float(np.mean(draws > 0)))


def draw_weights(
    strata: Sequence[str], num_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """[R, U]: how often each unit is drawn when every stratum is drawn again to its size."""
    names = np.asarray(strata)
    weights = np.zeros((num_draws, len(names)))
    for name in dict.fromkeys(strata):
        places = np.flatnonzero(names == name)
        size = len(places)
        weights[:, places] = rng.multinomial(size, np.full(size, 1 / size), size=num_draws)
    return weights


def _difference(
    first: Sequence[Table],
    second: Sequence[Table],
    metric: str,
    weights: npt.NDArray[np.float64],
    seeds: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    means = []
    for arm in (first, second):
        values = np.stack([estimates(table, weights)[metric] for table in arm], axis=1)
        means.append(values[:, 0] if len(arm) == 1 else (values * seeds).sum(axis=1))
    difference: npt.NDArray[np.float64] = means[1] - means[0]
    return difference


def _interval(draws: npt.NDArray[np.float64], level: float) -> Interval:
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(float(low), float(high))
