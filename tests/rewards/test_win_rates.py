"""Win rates: means, invariances, refused tables."""

import math

import numpy as np
import pytest

from mmalign.errors import RecordError
from mmalign.rewards.win_rates import (
    both_orders_mean,
    queue_win_rates,
    spread_over_steps,
    win_rates,
)

GAME = [[0.5, 0.9, 0.2], [0.1, 0.5, 0.8], [0.8, 0.2, 0.5]]


def test_win_rates_worked_by_hand() -> None:
    """(0.9 + 0.2) / 2, (0.1 + 0.8) / 2, (0.8 + 0.2) / 2."""
    assert win_rates(GAME).tolist() == pytest.approx([0.55, 0.45, 0.5], rel=1e-12)


def test_with_itself_counted_each_response_has_one_tie_more() -> None:
    """(0.5 + 0.9 + 0.2) / 3 and so on, whatever the table has on its diagonal."""
    rates = win_rates([[math.pi / 4, 0.9, 0.2], [0.1, 0.0, 0.8], [0.8, 0.2, 1.0]], count_self=True)
    assert rates.tolist() == pytest.approx([1.6 / 3, 1.4 / 3, 0.5], rel=1e-12)


@pytest.mark.parametrize("count_self", [True, False])
def test_the_mean_of_a_group_is_half(count_self: bool) -> None:
    assert win_rates(GAME, count_self=count_self).mean() == pytest.approx(0.5, rel=1e-12)


def test_a_new_order_of_the_responses_reorders_the_rewards() -> None:
    order = [2, 0, 1]
    table = np.array(GAME)
    assert win_rates(table[np.ix_(order, order)]).tolist() == win_rates(table)[order].tolist()


def test_two_responses_earn_what_the_judge_says() -> None:
    assert win_rates([[0.5, 0.7], [0.3, 0.5]]).tolist() == [0.7, 0.3]


def test_the_table_given_is_left_as_it_was() -> None:
    table = np.array(GAME)
    win_rates(table)
    assert table.tolist() == GAME


def test_a_queue_gives_the_mean_over_all_stored_responses() -> None:
    assert queue_win_rates([[1.0, 0.5, 0.75], [0.0, 0.0, 0.75]]).tolist() == [0.75, 0.25]


def test_shares_of_the_steps_sum_to_the_reward() -> None:
    shares = spread_over_steps(0.6, num_steps=3)
    assert shares == pytest.approx([0.2, 0.2, 0.2], rel=1e-12)
    assert math.fsum(shares) == pytest.approx(0.6, rel=1e-12)


def test_both_orders_are_averaged_and_their_contradiction_told() -> None:
    """0.8 when first and 1 - 0.4 when second give 0.7; together 0.2 more than 1."""
    found = both_orders_mean([[0.5, 0.8], [0.4, 0.5]])
    assert found.preferences.tolist() == [
        pytest.approx([0.5, 0.7], rel=1e-12),
        pytest.approx([0.3, 0.5], rel=1e-12),
    ]
    assert found.largest_bias == pytest.approx(0.2, rel=1e-12)
    assert both_orders_mean(GAME).largest_bias == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[0.5]], r"shape \[1, 1\], expected \[N, N\] with N >= 2"),
        ([[0.5, 0.5]], r"shape \[1, 2\]"),
        ([[0.5, math.nan], [0.5, 0.5]], r"preferences\[0, 1\] is nan, expected a probability"),
        ([[0.5, 0.5], [1.5, 0.5]], r"preferences\[1, 0\] is 1.5"),
    ],
)
def test_tables_that_are_no_preferences_are_refused(table: list[list[float]], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        win_rates(table)


def test_an_empty_queue_and_a_rollout_without_steps_are_refused() -> None:
    with pytest.raises(RecordError, match=r"shape \[2, 0\], expected \[N, Q\]"):
        queue_win_rates([[], []])
    with pytest.raises(RecordError, match=r"cannot share a reward of 0.5 among 0 steps"):
        spread_over_steps(0.5, num_steps=0)
    with pytest.raises(RecordError, match="reward of nan"):
        spread_over_steps(math.nan, num_steps=2)
