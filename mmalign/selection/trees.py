"""Search trees over the steps of a solution: where to search on, what a simulation teaches.

A tree is a sequence of `StepNode` that name each other by position; the node at position 0 is the
root, which holds the prompt and no step. Left out of MCTS-DPO are its judge's scaling by depth and
the rule by which its root moves on: both stand in its released code only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives.sums import require_positive
from mmalign.selection.candidates import require_numbers

__all__ = [
    "StepNode",
    "back_up",
    "path_to",
    "puct_score",
    "require_tree",
    "step_prior",
    "uct_score",
]


@dataclass(frozen=True)
class StepNode:
    """One step of a solution, with what the search knows of it."""

    parent: int | None
    """Position of the node before it; None for the root."""
    value: float
    """Worth of the solution up to here, as a judge or the finished search gives it."""
    visits: int = 0
    """N: simulations that passed through it."""
    action_value: float = 0.0
    """Q: worth of taking this step, its reward and what comes after; of no meaning in the root."""
    state_value: float = 0.0
    """V: worth of what comes after it; 0 in a leaf."""
    outcome: float | None = None
    """Reward of the finished solution; None where the solution goes on."""


def require_tree(
    nodes: Sequence[StepNode],
    *,
    where: str = "tree",
    value_range: tuple[float, float] | None = None,
) -> None:
    """Refuse what is no tree.

    Args:
        nodes: The tree.
        where: Its name, for the message.
        value_range: The scale on which values were given; None leaves them unchecked but for NaN.

    Raises:
        RecordError: No node, a second root, a parent that is not there, a cycle, a number of
            visits below 0, or a value that is NaN or outside the range.
    """
    low, high = value_range or (-math.inf, math.inf)
    if not nodes:
        raise RecordError(f"{where}: no node; a tree has at least its root")
    for place, node in enumerate(nodes):
        problem = ""
        if (node.parent is None) != (place == 0):
            problem = f"parent is {node.parent}; position 0, and no other, is the root"
        elif node.parent is not None and not 0 <= node.parent < len(nodes):
            problem = f"parent {node.parent} is not among the {len(nodes)} nodes"
        elif node.visits < 0:
            problem = f"{node.visits} visits, expected 0 or more"
        elif not (math.isfinite(node.value) and low <= node.value <= high):
            problem = f"value {node.value}, expected a number from {low} to {high}"
        if problem:
            raise RecordError(f"{where}, node {place}: {problem}")
    for place in range(len(nodes)):
        if len(_ancestry(nodes, place)) > len(nodes):
            raise RecordError(f"{where}, node {place}: its parents run in a circle")


def path_to(nodes: Sequence[StepNode], place: int) -> list[int]:
    """The steps of a response: from the root's child down to the node; empty for the root."""
    return _ancestry(nodes, place)[-2::-1]


def step_prior(token_logps: Sequence[float], *, length_penalty: float = 1.25) -> float:
    """How likely the policy finds a step, with long steps penalised less than by the sum.

        prior = exp(sum of token_logps / num_tokens ** length_penalty)

    Args:
        token_logps: Nats, of each token of the step.
        length_penalty: lambda, > 0; 1 is the geometric mean of the tokens' probabilities, more
            favours long steps.

    Raises:
        ShapeError: No token, or one whose log-probability is not finite.

    Source: MCTS-DPO (Xie et al., 2024), with the length penalty of its code.
    """
    require_positive(length_penalty=length_penalty)
    require_numbers(token_logps=token_logps)
    if not token_logps:
        raise ShapeError("token_logps is empty; the root holds no step and has no prior")
    return math.exp(math.fsum(token_logps) / len(token_logps) ** length_penalty)


def puct_score(
    action_value: float,
    prior: float,
    *,
    parent_visits: int,
    visits: int,
    exploration: float = 1.0,
) -> float:
    """What a search that follows the policy's own preferences goes for.

        score = Q + exploration * prior * sqrt(parent_visits) / (1 + visits)

    Args:
        action_value: Q of the step.
        prior: Of `step_prior`.
        parent_visits: Simulations through the step before, >= 0.
        visits: Simulations through this step, >= 0.
        exploration: c_puct, >= 0.

    Raises:
        ShapeError: A number of visits is below 0.

    Source: MCTS-DPO (Xie et al., 2024).
    """
    _require_visits(parent_visits, 0, visits)
    return action_value + exploration * prior * math.sqrt(parent_visits) / (1 + visits)


def uct_score(
    value_sum: float,
    prior: float,
    *,
    parent_visits: int,
    visits: int,
    exploration: float = 1.0,
    log_of: Literal["visits", "one_plus_visits"] = "visits",
) -> float:
    """The upper confidence bound of a step whose rewards were added up, weighted by its prior.

        score = value_sum / (visits + 1)
                + exploration * prior * sqrt(log(parent_visits) / (visits + 1))

    Args:
        value_sum: Rewards of all simulations through the step, its first estimate included.
        prior: How likely the policy finds the step, in [0, 1].
        parent_visits: Simulations through the step before, >= 1; at 1 nothing is explored.
        visits: Simulations through this step, >= 0.
        exploration: w in the paper, >= 0.
        log_of: `visits` as published, or `one_plus_visits`, which explores from the first visit
            on and lets parent_visits be 0.

    Raises:
        ShapeError: A number of visits is too small.

    Source: iTool (Zeng et al., 2025).
    """
    plus = 0 if log_of == "visits" else 1
    _require_visits(parent_visits, 1 - plus, visits)
    explored = math.sqrt(math.log(parent_visits + plus) / (visits + 1))
    return value_sum / (visits + 1) + exploration * prior * explored


def back_up(
    nodes: Sequence[StepNode],
    leaf: int,
    *,
    discount: float = 1.0,
    weighting: Literal["at_least_one", "visits"] = "at_least_one",
) -> list[StepNode]:
    """The tree after one simulation that ended in a leaf.

    From the leaf to the root, each node in this order:

        V  = sum over children (w * Q) / sum over children w      unless it is the leaf
        N += 1
        Q  = value - parent's value + discount * V                unless it is the root

    Args:
        nodes: The tree before; it is not changed.
        leaf: Position of the node that was reached; its V stays what it was.
        discount: gamma, of what comes after a step.
        weighting: w of a child: `at_least_one` is max(1, N) as in the released code, so that
            children which were only judged count too; `visits` is N as in the paper.

    Returns:
        The same nodes; those off the path are untouched.

    Raises:
        RecordError: The nodes are no tree, or the leaf is the root.

    Source: MCTS-DPO (Xie et al., 2024).
    """
    require_tree(nodes)
    if leaf == 0:
        raise RecordError("tree, node 0: a simulation ends in a step, not in the root")
    least = 1 if weighting == "at_least_one" else 0
    updated = list(nodes)
    for place in [*reversed(path_to(nodes, leaf)), 0]:
        node = updated[place]
        state_value, action_value = node.state_value, node.action_value
        if place != leaf:
            children = [child for child in updated if child.parent == place]
            weights = [max(least, child.visits) for child in children]
            total = math.fsum(
                weight * child.action_value for weight, child in zip(weights, children, strict=True)
            )
            state_value = total / sum(weights)
        if node.parent is not None:
            reward = node.value - updated[node.parent].value
            action_value = reward + discount * state_value
        updated[place] = replace(
            node, visits=node.visits + 1, action_value=action_value, state_value=state_value
        )
    return updated


def _ancestry(nodes: Sequence[StepNode], place: int) -> list[int]:
    """The node, its parent ... the root; cut off where it is longer than the tree is large."""
    found = [place]
    while (parent := nodes[found[-1]].parent) is not None and len(found) <= len(nodes):
        found.append(parent)
    return found


def _require_visits(parent_visits: int, least: int, visits: int) -> None:
    if parent_visits < least or visits < 0:
        raise ShapeError(
            f"parent_visits is {parent_visits} and visits {visits}, expected at least {least} and 0"
        )
