"""Group statistics and advantages: worked cases, invariances, missing rewards, refused input."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.groups import (
    AdvantageScale,
    group_advantages,
    group_statistics,
    mixed_groups,
)
from mmalign.testing.golden import t64

REWARDS = t64([0.3, 1.7, -0.4, 2.0, 0.9, 0.1])
GROUPS = torch.tensor([7, 2, 7, 2, 2, 7])


def test_advantages_worked_by_hand() -> None:
    """Rewards 0 and 1: mean 1/2, unbiased std sqrt(1/2); so -+1/2 over it is -+0.7071.

    The divisor n would give a std of 1/2 and advantages of -+1.
    """
    found = group_advantages(t64([0.0, 1.0]), torch.tensor([0, 0]), std_eps=0.0)
    assert_close(found, t64([-math.sqrt(0.5), math.sqrt(0.5)]))


def test_statistics_worked_by_hand() -> None:
    """Group 5 has 1, 2 and 6: mean 3, squares 4 + 1 + 9 over 2 is 7. Group 4 has 0 and 2."""
    found = group_statistics(t64([1.0, 0.0, 2.0, 6.0, 2.0]), torch.tensor([5, 4, 5, 5, 4]))
    assert_close(found.means, t64([3.0, 1.0, 3.0, 3.0, 1.0]))
    seven, two = math.sqrt(7), math.sqrt(2)
    assert_close(found.stds, t64([seven, two, seven, seven, two]))
    assert found.num_scored.tolist() == [3, 2, 3, 3, 2]


@pytest.mark.parametrize("scale", ["group_std", "none", "batch_std"])
def test_advantages_sum_to_zero_in_each_group(scale: AdvantageScale) -> None:
    found = group_advantages(REWARDS, GROUPS, scale=scale)
    for group in (7, 2):
        assert abs(found[group == GROUPS].sum().item()) < 1e-12
    assert found.abs().min() > 0


def test_scaled_advantages_ignore_unit_and_zero_of_the_reward() -> None:
    plain = group_advantages(REWARDS, GROUPS, std_eps=0.0)
    assert_close(group_advantages(3 * REWARDS - 5, GROUPS, std_eps=0.0), plain)


def test_centred_advantages_keep_the_unit_of_the_reward() -> None:
    plain = group_advantages(REWARDS, GROUPS, scale="none")
    assert_close(group_advantages(3 * REWARDS - 5, GROUPS, scale="none"), 3 * plain)


def test_division_by_the_std_hides_how_close_rewards_are() -> None:
    ids = torch.tensor([0, 0])
    near = group_advantages(t64([1.0, 0.99]), ids, std_eps=0.0)
    assert_close(near, group_advantages(t64([1.0, 0.0]), ids, std_eps=0.0))


def test_one_costly_rollout_among_right_ones_is_pushed_as_far_as_a_wrong_one() -> None:
    ids = torch.tensor([0, 0, 0])
    costly = group_advantages(t64([1.0, 1.0, 0.951]), ids)
    assert_close(costly, t64([0.577, 0.577, -1.155]), rtol=0, atol=1e-3)
    wrong = group_advantages(t64([1.0, 1.0, 0.0]), ids)
    assert_close(costly, wrong, rtol=1e-4, atol=0)
    mixed = group_advantages(t64([1.0, 0.951, 0.0]), ids)
    assert_close(mixed, t64([0.62, 0.53, -1.15]), rtol=0, atol=1e-2)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -1e6])
@pytest.mark.parametrize("scale", ["group_std", "none", "batch_std"])
def test_a_group_of_equal_rewards_has_advantages_of_exactly_zero(
    value: float, scale: AdvantageScale
) -> None:
    rewards = t64([value, 5.0, value, value, 4.0])
    ids = torch.tensor([0, 1, 0, 0, 1])
    found = group_advantages(rewards, ids, scale=scale, std_eps=0.0)
    assert found[ids == 0].tolist() == [0.0, 0.0, 0.0]
    assert group_statistics(rewards, ids).stds[0].item() == 0


def test_batch_std_divides_all_groups_by_one_number() -> None:
    found = group_advantages(REWARDS, GROUPS, scale="batch_std", std_eps=0.0)
    centred = group_advantages(REWARDS, GROUPS, scale="none")
    assert_close(found, centred / REWARDS.std())


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
def test_a_missing_reward_leaves_the_others_as_if_it_were_not_there(missing: float) -> None:
    rewards, ids = t64([1.0, missing, 0.0, 2.0]), torch.tensor([3, 3, 3, 3])
    found = group_advantages(rewards, ids)
    assert found[1].item() == 0
    kept = torch.tensor([0, 2, 3])
    assert_close(found[kept], group_advantages(rewards[kept], ids[kept]))
    assert group_statistics(rewards, ids).num_scored.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("scale", ["group_std", "none", "batch_std"])
def test_a_group_without_rewards_gets_no_advantages_and_no_mean(scale: AdvantageScale) -> None:
    rewards, ids = t64([math.nan, math.nan, 1.0, 3.0]), torch.tensor([0, 0, 1, 1])
    found = group_advantages(rewards, ids, scale=scale)
    assert found[:2].tolist() == [0.0, 0.0]
    assert found[2:].isfinite().all()
    assert group_statistics(rewards, ids).means[:2].isnan().all()


def test_advantages_carry_no_gradient() -> None:
    rewards = REWARDS.clone().requires_grad_()
    assert not group_advantages(rewards, GROUPS).requires_grad


def test_a_single_rollout_is_refused_by_its_group() -> None:
    with pytest.raises(ShapeError, match="group 9 has a single rollout"):
        group_advantages(t64([1.0, 0.0, 1.0]), torch.tensor([4, 4, 9]))


def test_rewards_and_groups_of_different_lengths_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"rewards \[3\], group_ids \[2\]"):
        group_statistics(t64([1.0, 0.0, 1.0]), torch.tensor([4, 4]))
    with pytest.raises(ShapeError, match=r"std_eps is -1\.0"):
        group_advantages(REWARDS, GROUPS, std_eps=-1.0)


def test_a_group_is_kept_where_its_outcomes_differ() -> None:
    kept = mixed_groups([1.0, 0.0, 1.0, 1.0, 0.5], ["a", "b", "a", "b", "c"])
    assert kept == {"a": False, "b": True, "c": False}
    assert list(kept) == ["a", "b", "c"]


def test_outcomes_that_are_no_numbers_or_have_no_group_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 outcomes for 1 group_ids"):
        mixed_groups([1.0, 0.0], ["a"])
    with pytest.raises(ShapeError, match=r"outcomes\[1\] is NaN"):
        mixed_groups([1.0, math.nan], ["a", "a"])
