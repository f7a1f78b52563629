"""How many samples went in, how many became pairs, and where the others were lost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from mmalign.engine.interrupts import tally_of_waiting
from mmalign.engine.reviews import REVIEW_NODE, REVIEW_REJECTED, review_losses
from mmalign.engine.store import RunStore

__all__ = ["Funnel", "FunnelRow", "funnel_of"]


@dataclass(frozen=True)
class FunnelRow:
    """Samples that were lost for one reason at one node."""

    reason: str
    node: str
    num_samples: int


@dataclass(frozen=True)
class Funnel:
    """Samples in = kept + dropped + failed + waiting."""

    num_in: int
    num_kept: int
    num_pairs: int
    """A kept sample may give several."""
    dropped: tuple[FunnelRow, ...]
    """By a rule of the method."""
    failed: tuple[FunnelRow, ...]
    """Because something went wrong."""
    num_calls: int
    """Answers that were paid for, those of unfinished samples included."""
    num_tokens: int
    cost: float
    waiting: tuple[FunnelRow, ...] = ()
    """For a person's answer."""

    @property
    def num_waiting(self) -> int:
        """Samples that wait for a person."""
        return sum(row.num_samples for row in self.waiting)

    @property
    def num_dropped(self) -> int:
        """Samples that a rule dropped."""
        return sum(row.num_samples for row in self.dropped)

    @property
    def num_failed(self) -> int:
        """Samples that failed."""
        return sum(row.num_samples for row in self.failed)

    def to_json(self) -> Mapping[str, Any]:
        """The funnel as JSON values, sums included."""
        return {
            **asdict(self),
            "num_dropped": self.num_dropped,
            "num_failed": self.num_failed,
            "num_waiting": self.num_waiting,
        }

    def table(self) -> Table:
        """The funnel for a terminal."""
        table = Table(title="Funnel", title_justify="left")
        for heading in ("", "reason", "node"):
            table.add_column(heading)
        table.add_column("samples", justify="right")
        table.add_column("share", justify="right")
        table.add_row("in", "", "", f"{self.num_in:,}", "")
        table.add_row(
            "kept",
            f"{self.num_pairs:,} pairs",
            "",
            f"{self.num_kept:,}",
            self._share(self.num_kept),
        )
        left = {"dropped": self.dropped, "failed": self.failed, "waiting": self.waiting}
        for kind, rows in left.items():
            for row in rows:
                share = self._share(row.num_samples)
                table.add_row(kind, row.reason, row.node, f"{row.num_samples:,}", share)
        table.caption = (
            f"{self.num_calls:,} model answers, {self.num_tokens:,} tokens, cost {self.cost:.4f}"
        )
        return table

    def _share(self, num_samples: int) -> str:
        return f"{num_samples / self.num_in:.1%}" if self.num_in else ""


def funnel_of(store: RunStore) -> Funnel:
    """The funnel of everything that is committed; rejected pairs count as dropped by review."""
    tally, totals = store.tally(), store.totals()
    lost, asked = review_losses(store), tally_of_waiting(store)
    rows: dict[str, list[FunnelRow]] = {"dropped": [], "failed": []}
    for status, reason, node, num_samples, _ in tally:
        if status != "kept":
            rows[status].append(FunnelRow(reason or "", node or "", num_samples))
    if lost.num_samples:
        rows["dropped"].append(FunnelRow(REVIEW_REJECTED, REVIEW_NODE, lost.num_samples))
    return Funnel(
        num_in=sum(row[3] for row in tally) + sum(num_samples for _, num_samples in asked),
        num_kept=sum(row[3] for row in tally if row[0] == "kept") - lost.num_samples,
        num_pairs=sum(row[4] for row in tally) - lost.num_pairs,
        dropped=tuple(rows["dropped"]),
        failed=tuple(rows["failed"]),
        num_calls=totals.num_calls,
        num_tokens=totals.num_tokens,
        cost=totals.cost,
        waiting=tuple(FunnelRow("asks_a_person", node, num) for node, num in asked),
    )
