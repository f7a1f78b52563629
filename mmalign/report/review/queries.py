"""What a person looks for: filters, order and page, as the address of the page holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlencode

__all__ = ["DIFFERENCE", "ORDER", "PAGE_SIZE", "UNDECIDED", "Query", "Tab"]

Tab = Literal["pairs", "dropped", "waiting"]

PAGE_SIZE = 50
ORDER = "order"
"""Sorts by the place in the data set."""
DIFFERENCE = "score_difference"
UNDECIDED = "undecided"
_TAG = "tag."


@dataclass(frozen=True)
class Query:
    """A filled-in filter form."""

    tab: Tab = "pairs"
    text: str = ""
    """Words that all must occur, in any case."""
    tags: tuple[tuple[str, str], ...] = ()
    """Names and values, in the alphabet's order."""
    node: str = ""
    reason: str = ""
    decision: str = ""
    """accepted, rejected, edited or undecided."""
    sort: str = ORDER
    """`order` or the name of a number."""
    descending: bool = False
    low: float | None = None
    """Bounds of the number that is sorted by; of the score difference in data-set order."""
    high: float | None = None
    page: int = 1
    id: str = ""
    """What is shown whole."""

    @classmethod
    def of(cls, values: Mapping[str, str]) -> "Query":
        """The query in an address; what cannot be read counts as not given."""
        tab = values.get("tab", "pairs")
        page = values.get("page", "")
        return cls(
            tab="dropped" if tab == "dropped" else "waiting" if tab == "waiting" else "pairs",
            text=values.get("text", "").strip(),
            tags=tuple(
                (name.removeprefix(_TAG), value)
                for name, value in sorted(values.items())
                if name.startswith(_TAG) and value
            ),
            node=values.get("node", ""),
            reason=values.get("reason", ""),
            decision=values.get("decision", ""),
            sort=values.get("sort", ORDER) or ORDER,
            descending=values.get("descending") == "1",
            low=_number(values.get("low", "")),
            high=_number(values.get("high", "")),
            page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
            id=values.get("id", ""),
        )

    @property
    def ranged(self) -> str:
        """The number that the bounds are about."""
        return DIFFERENCE if self.sort == ORDER else self.sort

    @property
    def filters(self) -> "Query":
        """The query without the place in its result: equal ones have equal results."""
        return replace(self, page=1, id="")

    def url(self, **changes: object) -> str:
        """The address of this query, some of its values changed."""
        query = replace(self, **changes)  # type: ignore[arg-type]  # the fields' own types
        default = Query()
        values = {
            name: "1" if value is True else repr(value) if isinstance(value, float) else value
            for name, value in vars(query).items()
            if name != "tags" and value != getattr(default, name)
        }
        values |= {f"{_TAG}{name}": value for name, value in query.tags}
        return f"/?{urlencode(values)}" if values else "/"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
