"""Which kind of pair each type of question was given: one tag across another, as shares."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mmalign.records import PreferencePair

__all__ = ["Crossing", "view_crossings"]

_BY = "question_type"
_MAX_VALUES = 12


@dataclass(frozen=True)
class Crossing:
    """The pairs of each type of question, divided by the values of another tag."""

    key: str
    """The other tag."""
    columns: tuple[str, ...]
    """Its values, the most frequent first."""
    rows: tuple[tuple[str, int, tuple[float, ...]], ...]
    """Type of question, its number of pairs, the share of each column in it."""


def view_crossings(pairs: Sequence[PreferencePair]) -> tuple[Crossing, ...]:
    """A table for each tag of two to twelve values; none where pairs have no type of question."""
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for pair in pairs:
        tags = pair.lineage.tags
        for key, value in tags.items():
            if key != _BY and _BY in tags:
                counts[key][tags[_BY]][value] += 1
    return tuple(
        crossing
        for key, by_type in sorted(counts.items())
        if 2 <= len((crossing := _crossing(key, by_type)).columns) <= _MAX_VALUES
    )


def _crossing(key: str, by_type: dict[str, Counter[str]]) -> Crossing:
    total: Counter[str] = Counter()
    for counts in by_type.values():
        total += counts
    columns = tuple(sorted(total, key=lambda value: (-total[value], value)))
    rows = tuple(
        (name, counts.total(), tuple(counts[value] / counts.total() for value in columns))
        for name, counts in sorted(by_type.items())
    )
    return Crossing(key, columns, rows)
