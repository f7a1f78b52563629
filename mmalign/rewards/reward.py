"""What a reward function returns."""

from typing import NamedTuple

__all__ = ["Reward"]


class Reward(NamedTuple):
    """A number for one completion, and why it is what it is."""

    value: float
    note: str = ""
    """Why an unreadable completion earns what it earns; empty where nothing is to be said."""
