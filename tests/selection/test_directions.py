"""Choosing along a direction: worked cases, identities and limits, refused input."""

import math

import pytest

from mmalign.errors import RecordError, ShapeError
from mmalign.rewards.multi_objective import direction_at
from mmalign.selection.directions import choose_along, first_best, neighbours, turned_direction

REWARDS = [[60.0, 30.0], [50.0, 90.0], [20.0, 95.0], [61.0, 10.0]]
DRAWS = [-1.0, -0.3, 0.0, 0.4, 1.0]


def test_the_best_along_a_direction_worked_by_hand() -> None:
    """Along (0.6, 0.8): 60, 102, 88 and 44.6."""
    choice = choose_along(REWARDS, [0.6, 0.8])
    assert choice.place == 1
    assert choice.scores == pytest.approx((60.0, 102.0, 88.0, 44.6))


def test_the_axes_choose_by_one_reward_alone() -> None:
    assert choose_along(REWARDS, direction_at(0.0)).place == 3
    assert choose_along(REWARDS, direction_at(90.0)).place == 2


@pytest.mark.parametrize("angle", [5.0, 30.0, 60.0, 85.0])
def test_with_positive_weights_no_candidate_is_better_in_every_reward(angle: float) -> None:
    chosen = REWARDS[choose_along(REWARDS, direction_at(angle)).place]
    assert not any(all(a > b for a, b in zip(other, chosen, strict=True)) for other in REWARDS)


def test_a_common_factor_and_a_common_offset_keep_the_choice() -> None:
    direction = direction_at(35.0)
    plain = choose_along(REWARDS, direction).place
    assert choose_along([[3 * a, 3 * b] for a, b in REWARDS], direction).place == plain
    assert choose_along([[a + 7, b + 7] for a, b in REWARDS], direction).place == plain


def test_more_candidates_never_lower_the_best_score() -> None:
    direction = direction_at(20.0)
    best = [max(choose_along(REWARDS[:k], direction).scores) for k in (1, 2, 3, 4)]
    assert best == sorted(best)
    assert choose_along(REWARDS[:1], direction).place == 0


def test_permuting_the_candidates_permutes_the_choice() -> None:
    order = [2, 3, 1, 0]
    direction = direction_at(35.0)
    there = choose_along(REWARDS, direction).place
    back = choose_along([REWARDS[place] for place in order], direction).place
    assert order[back] == there


def test_of_equal_scores_the_first_is_chosen() -> None:
    assert choose_along([[1.0, 0.0], [5.0, 2.0], [5.0, 2.0]], direction_at(10.0)).place == 1


def test_a_failed_candidate_is_never_chosen() -> None:
    choice = choose_along([None, [-9.0, -9.0]], direction_at(10.0))
    assert choice.place == 1
    assert choice.scores[0] == -math.inf


def test_neighbours_worked_by_hand() -> None:
    """40 - 30 = 10, cosine cos 30; 40 + 0.4 * 30 = 52, clipped to 45, cosine cos 5."""
    near = neighbours(40.0, [-1.0, 0.4])
    assert [n.angle_deg for n in near] == [10.0, 45.0]
    assert [n.clipped for n in near] == [False, True]
    assert [n.cosine for n in near] == pytest.approx([math.sqrt(3) / 2, math.cos(math.radians(5))])
    assert near[1].direction == pytest.approx((math.sqrt(0.5), math.sqrt(0.5)))


@pytest.mark.parametrize("angle", [-20.0, 0.0, 44.0])
def test_neighbours_stay_within_the_cone_and_the_range(angle: float) -> None:
    for n in neighbours(angle, DRAWS, max_angle_deg=25.0):
        assert abs(n.angle_deg - angle) <= 25 + 1e-9
        assert -45 <= n.angle_deg <= 45
        assert n.cosine >= math.cos(math.radians(25)) - 1e-12


def test_a_cone_of_0_degrees_is_the_direction_itself() -> None:
    near = neighbours(30.0, DRAWS, max_angle_deg=0.0)
    assert {n.direction for n in near} == {direction_at(30.0)}


@pytest.mark.parametrize("angle", [0.0, 12.5, 90.0])
def test_a_turned_direction_has_that_angle_to_the_old_one(angle: float) -> None:
    old = [2 / 3, 2 / 3, 1 / 3]
    turned = turned_direction(old, [0.3, -1.4, 0.9], angle_deg=angle)
    assert math.hypot(*turned) == pytest.approx(1, rel=1e-12)
    cosine = sum(a * b for a, b in zip(old, turned, strict=True))
    assert cosine == pytest.approx(math.cos(math.radians(angle)), abs=1e-12)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(RecordError, match="none of 2 candidates can be chosen"):
        choose_along([None, None], direction_at(0.0))
    with pytest.raises(RecordError, match="none of 0 candidates"):
        first_best([])
    with pytest.raises(ShapeError, match=r"scores\[1\] is nan"):
        first_best([1.0, math.nan])
    with pytest.raises(ShapeError, match=r"rewards\[0, 0\] is nan"):
        choose_along([[math.nan, 1.0]], direction_at(0.0))
    with pytest.raises(ShapeError, match="max_angle_deg is 91"):
        neighbours(0.0, [0.0], max_angle_deg=91)
    with pytest.raises(ShapeError, match=r"angle_deg is 50.0, expected degrees in \[-45"):
        neighbours(50.0, [0.0])
    with pytest.raises(ShapeError, match="expected one or more in"):
        neighbours(0.0, [])
    with pytest.raises(ShapeError, match=r"uniforms are \[1.5\]"):
        neighbours(0.0, [1.5])
    with pytest.raises(ShapeError, match="points to no side"):
        turned_direction([1.0, 0.0], [2.0, 0.0], angle_deg=5)
    with pytest.raises(ShapeError, match="two directions of one length"):
        turned_direction([1.0, 0.0], [2.0], angle_deg=5)
