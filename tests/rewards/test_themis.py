"""How a reward model ranks pairs: ties, missing rewards, refused input."""

import math

import pytest

from mmalign.errors import ShapeError
from mmalign.rewards.themis import RankedPairs, ranking_accuracy_of_rewards


def test_ties_and_missing_rewards_count_as_wrong_and_are_told() -> None:
    """Five pairs: one won, one lost, one tied, two without a reward."""
    found = ranking_accuracy_of_rewards([2.0, 1.0, 3.0, None, 5.0], [1.0, 2.0, 3.0, 0.0, None])
    assert found == RankedPairs(accuracy=0.2, num_ties=1, num_missing=2)


def test_broken_rewards_are_refused() -> None:
    with pytest.raises(ShapeError, match="1 chosen_rewards and 2 rejected_rewards"):
        ranking_accuracy_of_rewards([1.0], [1.0, 2.0])
    with pytest.raises(ShapeError, match="0 chosen_rewards"):
        ranking_accuracy_of_rewards([], [])
    with pytest.raises(ShapeError, match="pair 1: a reward is NaN"):
        ranking_accuracy_of_rewards([1.0, math.nan], [0.0, 0.0])
