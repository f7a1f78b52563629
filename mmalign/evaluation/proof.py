"""Results of a proof: values per arm and seed, and the file that keeps them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmalign.errors import RecordError
from mmalign.evaluation.bootstrap import Difference, Interval, draw_weights
from mmalign.evaluation.table import Table, estimates
from mmalign.records import Record
from mmalign.records.atomic import write_text

__all__ = ["ArmResult", "Proof", "arm_result", "write_proof"]


class ArmResult(Record):
    """One arm of a proof, in percent."""

    values: tuple[float, ...]
    """One per seed; an arm without seeds has one."""
    mean: float
    low: float
    high: float
    """Interval of the mean over draws of items and seeds."""


class Proof(Record):
    """What `docs/proofs/NAME.json` holds."""

    command: str
    """What reproduces it."""
    versions: dict[str, str]
    seeds: tuple[int, ...]
    metric: str
    higher_is_better: bool = True
    arms: dict[str, ArmResult]
    also: dict[str, dict[str, ArmResult]] = {}
    """Other metrics, each with all arms; no gate hangs on them."""
    differences: dict[str, dict[str, float]] = {}
    """`rrpo - base` and the like: value, low, high, share_above_zero."""
    notes: tuple[str, ...] = ()


def arm_result(
    tables: Sequence[Table],
    metric: str,
    *,
    num_draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> ArmResult:
    """Values of an arm per seed, their mean, and its interval over draws of items and seeds.

    Raises:
        RecordError: There is no table, or they do not hold the same units.
    """
    if not tables or any(table.units != tables[0].units for table in tables):
        raise RecordError("an arm needs one table per seed, all of the same items")
    num = len(tables)
    everything = np.ones((1, len(tables[0].units)))
    values = [float(estimates(table, everything)[metric][0]) for table in tables]
    rng = np.random.default_rng(seed)
    weights = draw_weights(tables[0].strata, num_draws, rng)
    seeds = rng.multinomial(num, [1 / num] * num, size=num_draws) / num
    drawn = np.stack([estimates(table, weights)[metric] for table in tables], axis=1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile((drawn * seeds).sum(axis=1), [tail, 100 - tail])
    interval = Interval(float(low), float(high))
    return ArmResult(
        values=tuple(values), mean=float(np.mean(values)), low=interval.low, high=interval.high
    )


def write_proof(
    path: Path, proof: Proof, differences: Mapping[str, Difference] | None = None
) -> None:
    """Put a proof in its file, with the differences between arms.

    Raises:
        StoreError: The file cannot be written.
    """
    found = {name: difference._asdict() for name, difference in (differences or {}).items()}
    value = proof.model_copy(update={"differences": {**proof.differences, **found}})
    write_text(path, json.dumps(value.model_dump(mode="json"), indent=1) + "\n")
