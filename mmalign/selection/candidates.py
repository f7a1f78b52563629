"""Candidates by their position: the pair that a rule makes of them, and checks that rules share."""

import math
from collections.abc import Sequence, Sized
from typing import NamedTuple

from mmalign.errors import ShapeError

__all__ = ["ChosenRejected", "require_numbers", "require_one_length"]


class ChosenRejected(NamedTuple):
    """The positions of the two candidates that become a pair."""

    chosen: int
    rejected: int


def require_numbers(**numbers: Sequence[float]) -> None:
    """Refuse NaN and infinite entries, which every comparison would let pass.

    Raises:
        ShapeError: With the name and the place of the first such entry.
    """
    for name, values in numbers.items():
        for place, value in enumerate(values):
            if not math.isfinite(value):
                raise ShapeError(f"{name}[{place}] is {value}, expected a finite number")


def require_one_length(**sequences: Sized) -> None:
    """Refuse sequences that do not belong to the same candidates.

    Raises:
        ShapeError: With all names and lengths.
    """
    if len({len(sequence) for sequence in sequences.values()}) > 1:
        found = ", ".join(f"{name} {len(sequence)}" for name, sequence in sequences.items())
        raise ShapeError(f"expected sequences of one length, found {found}")
