"""The funnel of a build: how many samples came in, what was kept, what was dropped and why."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmalign.records import DroppedSample, PreferencePair

__all__ = ["Drop", "FunnelView", "view_funnel"]

_MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Drop:
    """Samples that left at one node for one reason."""

    node: str
    reason: str
    kind: str
    count: int
    percent: float
    """Of the samples that came in."""
    examples: tuple[DroppedSample, ...]


@dataclass(frozen=True)
class FunnelView:
    """Counts of samples, and of the pairs that the kept ones became."""

    num_in: int
    num_kept: int
    num_pairs: int
    num_dropped: int
    num_pending: int
    """Neither kept nor dropped: the build was stopped before it reached them."""
    num_waiting: int
    """Whose agent has asked a person."""
    drops: tuple[Drop, ...]
    cost: float
    num_tokens: int

    @property
    def kept_percent(self) -> float:
        """Kept samples in percent of those that came in."""
        return 100.0 * self.num_kept / self.num_in if self.num_in else 0.0


def view_funnel(
    funnel: Mapping[str, Any],
    pairs: Sequence[PreferencePair],
    dropped: Sequence[DroppedSample],
) -> FunnelView:
    """Count the exported records; the stored funnel adds what they cannot tell: how many came in.

    Args:
        funnel: data/funnel.json, possibly empty.
        pairs: The kept records; several may come from one sample.
        dropped: The dropped ones, in the order of the file.
    """
    kept = {pair.sample_id for pair in pairs}
    lost: dict[str, DroppedSample] = {}
    for item in dropped:
        if item.sample_id not in kept:
            lost.setdefault(item.sample_id, item)
    num_waiting = int(funnel.get("num_waiting") or 0)
    num_in = max(int(funnel.get("num_in") or 0), len(kept) + len(lost) + num_waiting)
    groups: dict[tuple[str, str, str], list[DroppedSample]] = defaultdict(list)
    for item in lost.values():
        groups[item.node, item.reason, item.kind].append(item)
    drops = [
        Drop(
            node=node,
            reason=reason,
            kind=kind,
            count=len(items),
            percent=100.0 * len(items) / num_in,
            examples=tuple(items[:_MAX_EXAMPLES]),
        )
        for (node, reason, kind), items in groups.items()
    ]
    by_sample = {item.sample_id: item.lineage for item in dropped}
    by_sample |= {pair.sample_id: pair.lineage for pair in pairs}
    lineages = by_sample.values()
    return FunnelView(
        num_in=num_in,
        num_kept=len(kept),
        num_pairs=len(pairs),
        num_dropped=len(lost),
        num_pending=num_in - len(kept) - len(lost) - num_waiting,
        num_waiting=num_waiting,
        drops=tuple(sorted(drops, key=lambda drop: -drop.count)),
        cost=float(funnel.get("cost") or sum(lineage.cost for lineage in lineages)),
        num_tokens=int(funnel.get("num_tokens") or sum(item.num_tokens for item in lineages)),
    )
