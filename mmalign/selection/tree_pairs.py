"""Preference pairs out of search trees: siblings that share their past, and whole solutions."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from mmalign.errors import ShapeError
from mmalign.selection.candidates import ChosenRejected, require_numbers, require_one_length
from mmalign.selection.trees import StepNode, require_tree

__all__ = [
    "TreePair",
    "complete_pairs",
    "sibling_pair",
    "step_pairs",
    "visit_label_smoothing",
]


class TreePair(NamedTuple):
    """Two responses out of one tree: the steps from the root to each of two nodes."""

    kind: Literal["step", "complete"]
    chosen: int
    rejected: int
    gap: float
    """How much better the chosen one is, > 0."""


def sibling_pair(action_values: Sequence[float], visits: Sequence[int]) -> ChosenRejected | None:
    """Pair the best step with the worst of those that follow the same steps.

    Best is the largest (Q, N), of equal ones the last; worst the smallest (Q, N), of equal ones
    the first. The released code takes any other sibling for the worst.

    Args:
        action_values: Q of each sibling.
        visits: N of each, in the same order; decides between equal Q.

    Returns:
        Positions among the siblings; None where fewer than two are given or all Q are equal.

    Raises:
        ShapeError: The two differ in length, a Q is not finite or an N below 0.

    Source: MCTS-DPO (Xie et al., 2024).
    """
    require_one_length(action_values=action_values, visits=visits)
    require_numbers(action_values=action_values)
    if any(count < 0 for count in visits):
        raise ShapeError(f"visits is {list(visits)}, expected no number below 0")
    if len(action_values) < 2 or min(action_values) == max(action_values):
        return None
    keys = list(zip(action_values, visits, strict=True))
    places = range(len(keys))
    return ChosenRejected(
        chosen=max(places, key=lambda place: (keys[place], place)),
        rejected=min(places, key=lambda place: (keys[place], place)),
    )


def visit_label_smoothing(
    chosen_visits: int,
    rejected_visits: int,
    *,
    form: Literal["capped", "plain"] = "capped",
) -> float:
    """The share of flipped labels to expect where a search visited both steps.

    Steps that were searched about as often are hardly a preference: the smoothing nears 1/2.

        plain  = N_rejected / (N_chosen + N_rejected)
        capped = min(N_rejected / (max(1, N_chosen) + N_rejected), 1/2)

    Args:
        chosen_visits: N of the chosen step, >= 0.
        rejected_visits: N of the rejected step, >= 0.
        form: `capped` as in the released code, or `plain` as the paper has it, which prefers the
            rejected step where that was visited more often.

    Returns:
        Of a pair, in [0, 1/2], the `label_smoothing` of `cdpo_loss`; `plain` up to 1. A pair at
        1/2 teaches no preference and is better dropped.

    Raises:
        ShapeError: A number of visits is below 0, or both are 0 in `plain`.

    Source: MCTS-DPO (Xie et al., 2024), its conservative loss.
    """
    if min(chosen_visits, rejected_visits) < 0:
        raise ShapeError(f"visits are {chosen_visits} and {rejected_visits}, expected 0 or more")
    if form == "capped":
        return min(rejected_visits / (max(1, chosen_visits) + rejected_visits), 0.5)
    if chosen_visits + rejected_visits == 0:
        raise ShapeError("neither step was visited; drop the pair or take form='capped'")
    return rejected_visits / (chosen_visits + rejected_visits)


def step_pairs(
    nodes: Sequence[StepNode],
    *,
    gap_threshold: float = 0.3,
    min_visits: int = 1,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> list[TreePair]:
    """Pair siblings whose values lie far apart; the responses end with the siblings.

    Parents come in the order of their positions, and of one parent's children (0, 1), (0, 2) ...
    (1, 2) ...: the order is that of the positions, whichever of the two is chosen.

    Args:
        nodes: The tree.
        gap_threshold: tau: the difference of values must exceed it, so equal ones never pair.
        min_visits: Children that were visited less often are left out, their values being noise.
        value_range: The scale of the values, without which a threshold means nothing.

    Raises:
        RecordError: The nodes are no tree or a value is outside the range.
        ShapeError: gap_threshold is below 0.

    Source: AlphaLLM-CPL (Wang et al., 2024); threshold and visits are a reconstruction.
    """
    require_tree(nodes, value_range=value_range)
    _require_threshold(gap_threshold)
    pairs = []
    for parent in range(len(nodes)):
        children = [
            place
            for place, node in enumerate(nodes)
            if node.parent == parent and node.visits >= min_visits
        ]
        worths = {place: nodes[place].value for place in children}
        pairs += list(_pairs_above(worths, gap_threshold, "step"))
    return pairs


def complete_pairs(
    nodes: Sequence[StepNode],
    *,
    gap_threshold: float = 0.5,
) -> list[TreePair]:
    """Pair finished solutions of one prompt whose outcomes lie far apart.

    All nodes with an outcome take part, in the order of `step_pairs`; two of them that are
    siblings may be a step pair as well.

    Args:
        nodes: The tree.
        gap_threshold: The difference of outcomes must exceed it.

    Raises:
        RecordError: The nodes are no tree.
        ShapeError: gap_threshold is below 0 or an outcome is not finite.

    Source: AlphaLLM-CPL (Wang et al., 2024); the threshold is a reconstruction.
    """
    require_tree(nodes)
    _require_threshold(gap_threshold)
    worths = {place: node.outcome for place, node in enumerate(nodes) if node.outcome is not None}
    require_numbers(outcomes=list(worths.values()))
    return list(_pairs_above(worths, gap_threshold, "complete"))


def _pairs_above(
    worths: dict[int, float], threshold: float, kind: Literal["step", "complete"]
) -> Iterator[TreePair]:
    for one, other in combinations(worths, 2):
        gap = worths[one] - worths[other]
        if abs(gap) > threshold:
            chosen, rejected = (one, other) if gap > 0 else (other, one)
            yield TreePair(kind, chosen, rejected, abs(gap))


def _require_threshold(gap_threshold: float) -> None:
    if not gap_threshold >= 0:
        raise ShapeError(f"gap_threshold is {gap_threshold}, expected 0 or more")
