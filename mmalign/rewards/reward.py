"""What a reward function returns."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["NotApplicable", "Reward"]


class Reward(NamedTuple):
    """A number for one completion, and why it is what it is."""

    value: float
    note: str = ""
    """Why an unreadable completion earns what it earns; empty where nothing is to be said."""
    parts: Mapping[str, float] = MappingProxyType({})
    """What the number is made of, by name, to be logged."""


class NotApplicable(NamedTuple):
    """The reward has nothing to say about this completion; it earns and loses nothing by it."""

    note: str
    """Why."""
