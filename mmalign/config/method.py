"""One line of a table of pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Method"]


@dataclass(frozen=True)
class Method:
    """A published loss, reward, selection rule or diagnostic."""

    fn: Callable[..., Any]
    family: str
    """Slug of the methods that share a golden file."""
    source: str
    needs: str = ""
    """What a caller must have, where the name does not say it."""
    status: Literal["tested", "proven"] = "tested"
    """`tested`: agrees with the golden numbers; `proven`: docs/proofs holds its table."""

    @property
    def about(self) -> str:
        """The first line of the function's docstring."""
        return (self.fn.__doc__ or "").strip().partition("\n")[0]
