"""Themis: what a reward model with tools decides about pairs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mmalign.errors import ShapeError

__all__ = ["RankedPairs", "ranking_accuracy_of_rewards"]


class RankedPairs(NamedTuple):
    """How a reward model ranks labelled pairs."""

    accuracy: float
    """Share of all pairs whose chosen response has strictly more reward."""
    num_ties: int
    """Pairs with equal rewards; they count as wrong."""
    num_missing: int
    """Pairs of which a reward is missing; they count as wrong."""


def ranking_accuracy_of_rewards(
    chosen_rewards: Sequence[float | None], rejected_rewards: Sequence[float | None]
) -> RankedPairs:
    """How often the reward model prefers what people chose.

    Args:
        chosen_rewards: One per pair; None where the model gave no number, as after a trace
            that never came to its end.
        rejected_rewards: The same for the rejected responses.

    Returns:
        Accuracy in [0, 1], over all pairs, with the number of ties and of missing rewards.

    Raises:
        ShapeError: Unequal lengths, no pair, or a reward that is NaN.

    Source: Themis (Li et al., 2023), its evaluation code.
    """
    if len(chosen_rewards) != len(rejected_rewards) or not chosen_rewards:
        raise ShapeError(
            f"{len(chosen_rewards)} chosen_rewards and {len(rejected_rewards)} rejected_rewards, "
            f"expected one of each per pair, and a pair at least"
        )
    wins = ties = missing = 0
    pairs = zip(chosen_rewards, rejected_rewards, strict=True)
    for number, (chosen, rejected) in enumerate(pairs):
        if chosen is None or rejected is None:
            missing += 1
            continue
        if math.isnan(chosen) or math.isnan(rejected):
            raise ShapeError(f"pair {number}: a reward is NaN; give None where it is missing")
        wins += chosen > rejected
        ties += chosen == rejected
    return RankedPairs(wins / len(chosen_rewards), num_ties=ties, num_missing=missing)
