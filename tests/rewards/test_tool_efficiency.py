"""OTC: the printed table, shape of both curves, the optimum of a group, metrics."""

import math
from itertools import pairwise

import pytest

from mmalign.errors import RecordError, ShapeError
from mmalign.rewards.tool_efficiency import (
    ToolUse,
    fewest_correct_calls,
    mapped_calls,
    otc_grpo_efficiency,
    otc_grpo_reward,
    otc_ppo_efficiency,
    otc_ppo_reward,
    tool_productivity,
)

CALLS = range(6)


def test_ppo_efficiency_worked_by_hand() -> None:
    """c = 2: cos(0) = 1, cos(pi/4) = 0.7071, cos(2 pi/6) = 1/2."""
    found = [otc_ppo_efficiency(m, smoothing=2.0) for m in range(3)]
    assert found == pytest.approx([1, math.sqrt(0.5), 0.5], rel=1e-12)


def test_grpo_efficiency_worked_by_hand() -> None:
    """m = 1, n = 2: f = 4/3, sin(4/3 * pi / 4) = sin(pi/3)."""
    assert mapped_calls(1, 2) == pytest.approx(4 / 3)
    assert otc_grpo_efficiency(1, 2, smoothing=4.0) == pytest.approx(math.sqrt(0.75), rel=1e-12)


@pytest.mark.parametrize(
    ("fewest", "expected"),
    [
        (0, [1, 0.8660, 0.7071, 0.5878, 0.5, 0.4339]),
        (1, [0, 1, 0.8660, 0.7071, 0.5878, 0.5]),
        (2, [0, 0.8660, 1, 0.9511, 0.8660, 0.7818]),
        (3, [0, 0.7071, 0.9511, 1, 0.9749, 0.9239]),
    ],
)
def test_grpo_efficiency_over_calls(fewest: int, expected: list[float]) -> None:
    found = [otc_grpo_efficiency(m, fewest, smoothing=4.0) for m in CALLS]
    assert found == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("smoothing", [0.5, 1.0, 4.0])
def test_on_its_own_each_call_costs_and_a_larger_constant_costs_less(smoothing: float) -> None:
    found = [otc_ppo_efficiency(m, smoothing=smoothing) for m in range(40)]
    assert found[0] == 1
    assert all(after < before for before, after in pairwise(found))
    assert all(0 < value <= 1 for value in found)
    assert otc_ppo_efficiency(3, smoothing=smoothing + 1) > found[3]
    cosine = math.cos(3 * math.pi / (6 + smoothing))
    assert found[3] == pytest.approx(cosine, rel=1e-12)


def test_on_its_own_many_calls_earn_next_to_nothing() -> None:
    assert 0 < otc_ppo_efficiency(10**9, smoothing=1.0) < 1e-8


@pytest.mark.parametrize("m", range(1, 6))
@pytest.mark.parametrize("n", range(1, 6))
def test_in_a_group_only_the_ratio_to_the_optimum_matters(m: int, n: int) -> None:
    found = otc_grpo_efficiency(m, n, smoothing=1.0)
    assert found == pytest.approx(math.sin(math.pi * m / (m + n)), rel=1e-12)
    assert found == pytest.approx(otc_grpo_efficiency(n, m, smoothing=1.0), rel=1e-12)
    assert found == pytest.approx(otc_grpo_efficiency(3 * m, 3 * n, smoothing=1.0), rel=1e-12)
    assert found == pytest.approx(otc_grpo_efficiency(m, n, smoothing=9.0), rel=1e-12)
    assert (found == pytest.approx(1)) == (m == n)
    assert 0 <= mapped_calls(m, n) < 2 * n


def test_without_a_needed_call_both_curves_are_one() -> None:
    for m in CALLS:
        expected = otc_ppo_efficiency(m, smoothing=4.0)
        assert otc_grpo_efficiency(m, 0, smoothing=4.0) == expected
        assert mapped_calls(m, 0) == m


def test_a_wrong_answer_earns_nothing_however_few_calls_it_took() -> None:
    assert otc_ppo_reward(correct=False, num_calls=0, smoothing=4.0).value == 0
    found = otc_grpo_reward(correct=False, num_calls=1, fewest_calls=1, smoothing=4.0)
    assert found.value == 0


def test_a_right_answer_earns_alpha_at_most() -> None:
    best = otc_grpo_reward(correct=True, num_calls=2, fewest_calls=2, smoothing=4.0, alpha=0.5)
    assert best.value == pytest.approx(0.5)
    assert otc_ppo_reward(correct=True, num_calls=0, smoothing=4.0, alpha=0.5).value == 0.5


def test_without_any_correct_rollout_every_reward_is_zero_and_says_why() -> None:
    found = otc_grpo_reward(correct=False, num_calls=3, fewest_calls=None, smoothing=4.0)
    assert found.value == 0
    assert "ever correct" in found.note


def test_the_optimum_is_taken_over_correct_rollouts_and_never_rises() -> None:
    calls, correct = [3, 1, 2, 0, 4, 2], [True, False, True, False, False, True]
    groups = ["a", "a", "a", "b", "b", "c"]
    assert fewest_correct_calls(calls, correct, groups) == {"a": 2, "b": None, "c": 2}
    history = {"a": 1, "b": 3, "c": 5, "elsewhere": 0}
    assert fewest_correct_calls(calls, correct, groups, history) == {"a": 1, "b": 3, "c": 2}
    assert fewest_correct_calls(calls, correct, groups, {"a": None})["a"] == 2


def test_productivity_is_a_ratio_of_sums() -> None:
    """Two of three right with 1 + 3 + 0 calls: 2/4; the mean of ratios 1/1 and 0/3 is 1/2 too,
    but the question without a call has none."""
    found = tool_productivity([True, False, True], [1, 3, 0])
    assert found == pytest.approx(ToolUse(2 / 3, 4 / 3, 0.5))
    assert found.productivity == pytest.approx(found.exact_match / found.tool_calls)
    uneven = tool_productivity([True, True], [1, 4])
    assert uneven.productivity == pytest.approx(2 / 5)
    assert uneven.productivity != pytest.approx((1 / 1 + 1 / 4) / 2)


def test_without_calls_there_is_no_productivity() -> None:
    assert tool_productivity([True], [0]).productivity is None


def test_broken_counts_and_settings_are_refused() -> None:
    with pytest.raises(RecordError, match="num_calls is -1"):
        otc_ppo_efficiency(-1, smoothing=1.0)
    with pytest.raises(RecordError, match=r"num_calls is 1\.5"):
        otc_ppo_efficiency(1.5, smoothing=1.0)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(RecordError, match="fewest_calls is -2"):
        otc_grpo_efficiency(1, -2, smoothing=1.0)
    with pytest.raises(ShapeError, match="smoothing is 0"):
        otc_grpo_efficiency(1, 1, smoothing=0.0)
    with pytest.raises(ShapeError, match="alpha is -1"):
        otc_ppo_reward(correct=True, num_calls=1, smoothing=1.0, alpha=-1.0)
    with pytest.raises(RecordError, match=r"correct is 0\.5"):
        otc_ppo_reward(correct=0.5, num_calls=1, smoothing=1.0)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(RecordError, match="correct rollout with fewest_calls None"):
        otc_grpo_reward(correct=True, num_calls=1, fewest_calls=None, smoothing=1.0)
    with pytest.raises(ShapeError, match="2 num_calls, 1 correct and 1 group_ids"):
        fewest_correct_calls([1, 2], [True], ["a"])
    with pytest.raises(ShapeError, match="0 correct and 0 num_calls"):
        tool_productivity([], [])
