"""Pure functions that reward one completion, or a group of them, against gold data."""

from mmalign.rewards.table import REWARDS

__all__ = ["REWARDS"]
