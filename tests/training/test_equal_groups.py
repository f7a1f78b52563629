"""A run whose groups teach nothing ends, with advice."""

import pytest

from mmalign.errors import FailedRatioError
from mmalign.training.rollout_metrics import EqualGroups, RolloutFacts


def generation(num_equal: int, num_others: int) -> list[RolloutFacts]:
    """Groups of two."""
    rewards = [(1.0, 1.0)] * num_equal + [(0.0, 1.0)] * num_others
    return [
        RolloutFacts(
            group=group,
            reward=reward,
            values={},
            parts={},
            num_tokens=1,
            is_truncated=False,
            num_calls=0,
            num_failed_calls=0,
            has_failed=False,
        )
        for group, pair in enumerate(rewards)
        for reward in pair
    ]


def test_a_run_ends_where_most_of_the_first_groups_are_equal() -> None:
    watch = EqualGroups(0.5, judged_from=20)
    watch.require_few(generation(8, 2))
    with pytest.raises(FailedRatioError, match=r"in 11 of the first 20 groups.*cold start"):
        watch.require_few(generation(3, 7))


def test_half_is_not_more_than_half() -> None:
    watch = EqualGroups(0.5, judged_from=20)
    watch.require_few(generation(10, 10))


def test_later_groups_are_not_looked_at() -> None:
    watch = EqualGroups(0.5, judged_from=10)
    watch.require_few(generation(2, 8))
    watch.require_few(generation(30, 0))


def test_without_a_limit_nothing_is_looked_at() -> None:
    EqualGroups(None, judged_from=1).require_few(generation(30, 0))
