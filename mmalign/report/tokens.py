"""The planner's token table: how many tokens the samples have, of which kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["TokenTable", "view_tokens"]

_COLUMNS = {"p50": "median", "p95": "95%", "max": "longest", "sum": "all samples"}


@dataclass(frozen=True)
class TokenTable:
    """Percentiles per kind of token, and the plan's single values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    facts: tuple[tuple[str, str], ...]


def view_tokens(plan: Mapping[str, Any] | None) -> TokenTable | None:
    """The plan as a table, or None where nothing was planned.

    Args:
        plan: train/plan.json: `percentiles` per kind of token, `memory` in bytes per part, the
            `records`, and which of them are `too_long` or `broken`.
    """
    if not plan:
        return None
    kinds: Mapping[str, Mapping[str, float]] = plan.get("percentiles") or {}
    columns = tuple(dict.fromkeys(column for values in kinds.values() for column in values))
    memory = {
        part: amount
        for part, amount in (plan.get("memory") or {}).items()
        if isinstance(amount, int | float)
    }
    facts = {
        "Samples": f"{len(plan['records']):,}" if "records" in plan else "",
        "Longest allowed": f"{plan['max_length']:,}" if plan.get("max_length") else "",
        "Too long": f"{len(plan.get('too_long') or ()):,}",
        "Unreadable": f"{len(plan.get('broken') or ()):,}",
        "Memory at the peak": f"{sum(memory.values()) / 2**20:,.0f} MiB" if memory else "",
        "Memory by part, MiB": ", ".join(
            f"{part.replace('_', ' ')} {amount / 2**20:,.0f}"
            for part, amount in memory.items()
            if amount >= 2**20
        ),
    }
    return TokenTable(
        columns=tuple(_COLUMNS.get(column, column) for column in columns),
        rows=tuple(
            (kind.removesuffix("_tokens"), tuple(values.get(column) for column in columns))
            for kind, values in kinds.items()
        ),
        facts=tuple((name, value) for name, value in facts.items() if value),
    )
