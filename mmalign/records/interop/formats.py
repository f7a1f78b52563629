"""What a neighbour's format is to us: how rows are written and read, and what they cannot hold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmalign.records.pairs import PreferencePair

__all__ = ["Format", "Loss", "RowLoss"]

Row = dict[str, Any]


class RowLoss(NamedTuple):
    """Something of one pair that a format cannot hold."""

    what: str
    leaves_out: bool = False
    """Without it the row would say something else or nothing: it is not written at all."""


class Loss(NamedTuple):
    """What an export lost, and of which pair."""

    row: int
    """Place of the pair among those exported, from 1."""
    pair_id: str
    what: str
    leaves_out: bool

    def __str__(self) -> str:
        """One line of a message."""
        verb = "would be left out: " if self.leaves_out else ""
        return f'row {self.row} (pair "{self.pair_id}"): {verb}{self.what}'


@dataclass(frozen=True)
class Format:
    """One neighbour's file format for preference pairs."""

    name: str
    rows: Callable[[Sequence[PreferencePair]], Iterator[Row]]
    """Rows of a whole file: some columns must have one form in all of them."""
    pair: Callable[[Mapping[str, Any], str], PreferencePair]
    """One row as a pair; the text names the file, for the lineage."""
    losses: Callable[[PreferencePair], list[RowLoss]]
    loses: str
    """What the format cannot hold, in words."""
    lines: bool = True
    """JSON lines; else one JSON list."""
    finish: Callable[[Path, Sequence[Row]], None] | None = None
    """Writes what must stand beside the file."""
    columns: Callable[[Path], Mapping[str, str]] | None = None
    """Reads how the file's columns are called, ours by theirs."""

    @property
    def about(self) -> str:
        """One line for lists of formats."""
        return f"cannot hold: {self.loses}"
