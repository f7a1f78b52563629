"""Search trees: priors, scores, what a simulation changes, what is no tree."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from mmalign.errors import RecordError, ShapeError
from mmalign.selection.trees import (
    StepNode,
    back_up,
    path_to,
    puct_score,
    require_tree,
    step_prior,
    uct_score,
)


def random_tree(seed: int, num_nodes: int = 12) -> list[StepNode]:
    rng = random.Random(seed)
    nodes = [StepNode(None, 0.0, visits=3)]
    for place in range(1, num_nodes):
        value = rng.uniform(-1, 1)
        parent = rng.randrange(place)
        nodes.append(StepNode(parent, value, visits=rng.randrange(4), action_value=value))
    return nodes


def test_prior_worked_by_hand() -> None:
    """Two tokens of -1 and -3 with lambda 2: exp(-4 / 2^2) = exp(-1)."""
    assert step_prior([-1.0, -3.0], length_penalty=2.0) == pytest.approx(math.exp(-1), rel=1e-12)


def test_prior_without_length_penalty_is_the_geometric_mean() -> None:
    logps = [math.log(0.5), math.log(0.125)]
    assert step_prior(logps, length_penalty=1.0) == pytest.approx(0.25, rel=1e-12)


def test_prior_rises_with_the_length_penalty_for_more_than_one_token() -> None:
    priors = [step_prior([-0.5] * 3, length_penalty=penalty) for penalty in (1.0, 1.25, 2.0)]
    assert priors == sorted(set(priors))
    assert step_prior([-0.5], length_penalty=2.0) == step_prior([-0.5], length_penalty=1.0)


def test_puct_worked_by_hand() -> None:
    """Q 0.5 and 2 * 0.25 * sqrt(9) / (1 + 2) = 0.5 give 1."""
    found = puct_score(0.5, 0.25, parent_visits=9, visits=2, exploration=2.0)
    assert found == pytest.approx(1.0, rel=1e-12)


def test_puct_of_a_parent_without_visits_is_q() -> None:
    assert puct_score(0.3, 0.9, parent_visits=0, visits=0) == 0.3


def test_uct_worked_by_hand() -> None:
    """1.5 / (2 + 1) = 0.5, and 0.5 * sqrt(log 20 / (2 + 1)) on top."""
    found = uct_score(1.5, 0.5, parent_visits=20, visits=2)
    assert found == pytest.approx(0.5 + 0.5 * math.sqrt(math.log(20) / 3), rel=1e-12)


def test_uct_explores_nothing_at_the_first_visit_unless_it_counts_one_more() -> None:
    assert uct_score(0.8, 0.5, parent_visits=1, visits=1) == 0.4
    found = uct_score(0.8, 0.5, parent_visits=1, visits=1, log_of="one_plus_visits")
    assert found == pytest.approx(0.4 + 0.5 * math.sqrt(math.log(2) / 2), rel=1e-12)
    assert uct_score(0.8, 0.5, parent_visits=0, visits=0, log_of="one_plus_visits") == 0.8


def test_back_up_worked_by_hand() -> None:
    """Leaf: Q = 0.5 - 0, N = 1. Root: V = (1 * 0.5 + 3 * 0.2) / 4 = 0.275, N = 4."""
    nodes = [
        StepNode(None, 0.0, visits=3),
        StepNode(0, 0.5),
        StepNode(0, 0.2, visits=3, action_value=0.2),
    ]
    root, leaf, other = back_up(nodes, 1)
    assert (leaf.action_value, leaf.visits) == (0.5, 1)
    assert root.state_value == pytest.approx(0.275, rel=1e-12)
    assert (root.visits, root.action_value) == (4, 0.0)
    assert other == nodes[2]


def test_children_that_were_only_judged_count_in_the_code_and_not_in_the_paper() -> None:
    nodes = [StepNode(None, 0.0), StepNode(0, 0.6), StepNode(0, 0.0, action_value=0.0)]
    assert back_up(nodes, 1)[0].state_value == pytest.approx(0.3, rel=1e-12)
    assert back_up(nodes, 1, weighting="visits")[0].state_value == pytest.approx(0.6, rel=1e-12)


def test_discount_scales_what_comes_after_a_step() -> None:
    """Below the leaf 0; Q of the leaf 0.4 - 0.1; Q of its parent 0.1 + 0.5 * 0.3."""
    nodes = [StepNode(None, 0.0), StepNode(0, 0.1), StepNode(1, 0.4)]
    assert back_up(nodes, 2, discount=0.5)[1].action_value == pytest.approx(0.25, rel=1e-12)


def test_a_chain_backs_up_the_leaf_value_over_the_root_value() -> None:
    nodes = [StepNode(None, 0.25), StepNode(0, 0.5), StepNode(1, -0.5), StepNode(2, 0.9)]
    assert back_up(nodes, 3)[0].state_value == pytest.approx(0.9 - 0.25, rel=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_a_simulation_changes_its_path_only_and_each_visit_by_one(seed: int) -> None:
    nodes = random_tree(seed)
    leaf = len(nodes) - 1
    path = {0, *path_to(nodes, leaf)}
    before = list(nodes)
    after = back_up(nodes, leaf)
    assert nodes == before
    for place, (old, new) in enumerate(zip(nodes, after, strict=True)):
        if place in path:
            assert new.visits == old.visits + 1
        else:
            assert new == old


@pytest.mark.parametrize("seed", range(10))
def test_a_state_is_worth_between_its_worst_and_best_step(seed: int) -> None:
    nodes = random_tree(seed)
    leaf = len(nodes) - 1
    after = back_up(nodes, leaf)
    for place in [0, *path_to(nodes, leaf)[:-1]]:
        worths = [node.action_value for node in after if node.parent == place]
        assert min(worths) - 1e-12 <= after[place].state_value <= max(worths) + 1e-12


def test_path_runs_from_the_roots_child_to_the_node() -> None:
    nodes = [StepNode(None, 0.0), StepNode(2, 0.0), StepNode(0, 0.0), StepNode(1, 0.0)]
    assert path_to(nodes, 3) == [2, 1, 3]
    assert path_to(nodes, 0) == []


@pytest.mark.parametrize(
    ("place", "changed", "message"),
    [
        (0, {"parent": 1}, r"tree 7, node 0: parent is 1; position 0"),
        (1, {"parent": None}, "node 1: parent is None; position 0, and no other"),
        (2, {"parent": 9}, "node 2: parent 9 is not among the 3 nodes"),
        (1, {"parent": 2}, "node 1: its parents run in a circle"),
        (1, {"visits": -1}, "node 1: -1 visits"),
        (1, {"value": math.nan}, "node 1: value nan, expected a number from -1 to 1"),
        (1, {"value": 1.5}, "node 1: value 1.5"),
    ],
)
def test_what_is_no_tree_is_refused_by_node(
    place: int, changed: dict[str, Any], message: str
) -> None:
    nodes = [StepNode(None, 0.0), StepNode(0, 0.1), StepNode(1, 0.2)]
    require_tree(nodes)
    nodes[place] = replace(nodes[place], **changed)
    with pytest.raises(RecordError, match=message):
        require_tree(nodes, where="tree 7", value_range=(-1, 1))


def test_other_refused_inputs_say_what_is_expected() -> None:
    with pytest.raises(RecordError, match="no node; a tree has at least its root"):
        require_tree([])
    with pytest.raises(RecordError, match="ends in a step, not in the root"):
        back_up([StepNode(None, 0.0)], 0)
    with pytest.raises(ShapeError, match="token_logps is empty"):
        step_prior([])
    with pytest.raises(ShapeError, match=r"token_logps\[1\] is nan"):
        step_prior([-1.0, math.nan])
    with pytest.raises(ShapeError, match="length_penalty is 0"):
        step_prior([-1.0], length_penalty=0)
    with pytest.raises(ShapeError, match="parent_visits is 0 and visits 0, expected at least 1"):
        uct_score(0.0, 0.5, parent_visits=0, visits=0)
    with pytest.raises(ShapeError, match="parent_visits is 2 and visits -1"):
        puct_score(0.0, 0.5, parent_visits=2, visits=-1)
