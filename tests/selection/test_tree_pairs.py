"""Pairs out of search trees: which siblings and solutions, and how sure their label is."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives import cdpo_loss, dpo_loss
from mmalign.selection.tree_pairs import (
    TreePair,
    complete_pairs,
    sibling_pair,
    step_pairs,
    visit_label_smoothing,
)
from mmalign.selection.trees import StepNode, path_to
from mmalign.testing.golden import t64

TREE = [
    StepNode(None, 0.0),
    StepNode(0, 0.1, visits=2),
    StepNode(0, 0.9, visits=4),
    StepNode(0, 0.2, visits=1),
    StepNode(2, 0.9, visits=2, outcome=1.0),
    StepNode(2, -0.5, visits=1, outcome=0.0),
    StepNode(1, 0.1, visits=1, outcome=1.0),
]


def test_step_pairs_worked_by_hand() -> None:
    """Under the root 0.9 - 0.1 and 0.9 - 0.2 exceed 0.3, 0.2 - 0.1 does not; below, 0.9 + 0.5."""
    pairs = step_pairs(TREE, gap_threshold=0.3)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(2, 1), (2, 3), (4, 5)]
    assert [pair.gap for pair in pairs] == pytest.approx([0.8, 0.7, 1.4])
    assert {pair.kind for pair in pairs} == {"step"}


def test_complete_pairs_are_of_any_two_solutions_and_may_repeat_a_step_pair() -> None:
    pairs = complete_pairs(TREE, gap_threshold=0.5)
    assert pairs == [TreePair("complete", 4, 5, 1.0), TreePair("complete", 6, 5, 1.0)]


def test_both_sides_of_a_step_pair_have_one_parent() -> None:
    for pair in step_pairs(TREE, gap_threshold=0.05):
        assert TREE[pair.chosen].parent == TREE[pair.rejected].parent
        assert TREE[pair.chosen].value > TREE[pair.rejected].value


def test_a_higher_threshold_never_adds_a_pair() -> None:
    found = [set(step_pairs(TREE, gap_threshold=tau)) for tau in (0.0, 0.05, 0.3, 0.75, 1.4)]
    assert all(higher <= lower for lower, higher in itertools.pairwise(found))
    assert found[0]
    assert not found[-1]


def test_equal_values_never_pair() -> None:
    equal = [StepNode(None, 0.0), StepNode(0, 0.4, visits=1), StepNode(0, 0.4, visits=1)]
    assert step_pairs(equal, gap_threshold=0.0) == []


def test_rarely_visited_children_can_be_left_out() -> None:
    assert [pair.rejected for pair in step_pairs(TREE, min_visits=2)] == [1]


def response(logps: list[Tensor], place: int) -> Tensor:
    return torch.cat([logps[step] for step in path_to(TREE, place)]).sum().reshape(1)


def test_shared_steps_change_neither_loss_nor_gradient() -> None:
    source = torch.Generator().manual_seed(0)
    policy, ref = (
        [-torch.rand(3, generator=source, dtype=torch.float64).requires_grad_() for _ in TREE]
        for _ in range(2)
    )
    ref = [logps.detach() for logps in ref]
    [pair] = step_pairs(TREE, gap_threshold=1.0)
    sides = (pair.chosen, pair.rejected)
    whole = dpo_loss(
        *(response(policy, side) for side in sides),
        *(response(ref, side) for side in sides),
        beta=0.3,
    ).loss
    last_step = dpo_loss(
        *(policy[side].sum().reshape(1) for side in sides),
        *(ref[side].sum().reshape(1) for side in sides),
        beta=0.3,
    ).loss
    assert_close(whole, last_step, rtol=1e-10, atol=0)
    shared, chosen = torch.autograd.grad(whole.sum(), [policy[2], policy[pair.chosen]])
    assert shared.abs().max() == 0
    assert (chosen < 0).all()


def test_best_sibling_is_the_last_of_equal_ones_and_worst_the_first() -> None:
    assert sibling_pair([0.5, 0.9, 0.1], [1, 1, 1]) == (1, 2)
    assert sibling_pair([0.9, 0.9, 0.1, 0.1], [1, 1, 1, 1]) == (1, 2)


def test_visits_decide_between_equal_siblings() -> None:
    assert sibling_pair([0.9, 0.9, 0.1, 0.1], [5, 1, 5, 1]) == (0, 3)


@pytest.mark.parametrize("values", [[], [0.3], [0.3, 0.3, 0.3]])
def test_siblings_that_do_not_differ_make_no_pair(values: list[float]) -> None:
    assert sibling_pair(values, list(range(len(values)))) is None


def test_label_smoothing_worked_by_hand() -> None:
    """2 visits against 6: 2 / (6 + 2) = 0.25."""
    assert visit_label_smoothing(6, 2) == pytest.approx(0.25, rel=1e-12)
    assert visit_label_smoothing(6, 2, form="plain") == pytest.approx(0.25, rel=1e-12)


def test_label_smoothing_is_capped_where_the_rejected_step_was_visited_as_often() -> None:
    assert visit_label_smoothing(2, 2) == 0.5
    assert visit_label_smoothing(1, 7) == 0.5
    assert visit_label_smoothing(0, 1) == 0.5
    assert visit_label_smoothing(1, 7, form="plain") == 0.875


def test_an_unvisited_rejected_step_gives_plain_dpo() -> None:
    smoothing = [visit_label_smoothing(visits, 0) for visits in (0, 5)]
    assert smoothing == [0.0, 0.0]
    logps = [t64([-1.0, -2.0]), t64([-3.0, -1.0]), t64([-2.0, -2.0]), t64([-2.5, -1.5])]
    smoothed = cdpo_loss(*logps, beta=0.4, label_smoothing=t64(smoothing)).loss
    assert_close(smoothed, dpo_loss(*logps, beta=0.4).loss, rtol=0, atol=0)


def test_the_margin_sought_is_that_of_the_visits() -> None:
    """sigma(beta * h) = 1 - alpha = 3/4 at h = log(3) / beta."""
    alpha = visit_label_smoothing(6, 2)
    policy = t64([math.log(3) / 0.1], requires_grad=True)
    zero = t64([0.0])
    loss = cdpo_loss(policy, zero, zero, zero, beta=0.1, label_smoothing=t64([alpha])).loss
    assert torch.autograd.grad(loss.sum(), policy)[0].item() == pytest.approx(0.0, abs=1e-15)


def test_refused_inputs_say_what_is_expected() -> None:
    with pytest.raises(RecordError, match=r"node 1: value 3\.0, expected a number from -1"):
        step_pairs([StepNode(None, 0.0), StepNode(0, 3.0)])
    with pytest.raises(ShapeError, match=r"gap_threshold is -0\.1, expected 0 or more"):
        step_pairs(TREE, gap_threshold=-0.1)
    with pytest.raises(ShapeError, match="gap_threshold is nan"):
        complete_pairs(TREE, gap_threshold=math.nan)
    with pytest.raises(ShapeError, match=r"outcomes\[0\] is nan"):
        complete_pairs([StepNode(None, 0.0), StepNode(0, 0.0, outcome=math.nan)])
    with pytest.raises(ShapeError, match="one length, found action_values 2, visits 1"):
        sibling_pair([0.1, 0.2], [1])
    with pytest.raises(ShapeError, match=r"action_values\[1\] is nan"):
        sibling_pair([0.1, math.nan], [1, 1])
    with pytest.raises(ShapeError, match="visits is"):
        sibling_pair([0.1, 0.2], [1, -1])
    with pytest.raises(ShapeError, match="visits are 3 and -1"):
        visit_label_smoothing(3, -1)
    with pytest.raises(ShapeError, match="neither step was visited; drop the pair"):
        visit_label_smoothing(0, 0, form="plain")
