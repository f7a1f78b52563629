"""What a model is bad at: samples that surprise it, and steps on which its own tries part."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import masked_mean
from mmalign.rewards.self_evaluation import word_overlap
from mmalign.selection.candidates import ChosenRejected, require_numbers, require_one_length

__all__ = [
    "Deficient",
    "StepPreference",
    "perplexity",
    "select_deficient",
    "step_preference",
]


class Deficient(NamedTuple):
    """The samples that a model finds hardest, the most surprising first."""

    with_tool: list[int]
    """Positions; empty where the share of the class is less than one sample."""
    without_tool: list[int]


class StepPreference(NamedTuple):
    """What became of the children of one node of a search."""

    status: Literal["ok", "too_few_children", "gap_too_small", "too_similar", "chosen_too_poor"]
    """`ok`, or why there is no pair."""
    pair: ChosenRejected | None = None
    """Positions among the children."""


def perplexity(token_logps: Tensor, mask: Tensor) -> Tensor:
    """How surprised a model is by each response.

        perplexity = exp(-mean of token_logps)

    Args:
        token_logps: [N, T], nats.
        mask: [N, T], not 0 on the tokens that the model is to write.

    Returns:
        [N], >= 1, detached; NaN in a row without such a token.

    Raises:
        ShapeError: The two differ in shape.

    Source: iTool (Zeng et al., 2025).
    """
    return (-masked_mean(token_logps, mask)).exp().detach()


def select_deficient(
    perplexities: Sequence[float], is_tool: Sequence[bool | int], *, ratio: float = 0.3
) -> Deficient:
    """The most surprising share of the samples, of those with a tool call and of the others.

    Args:
        perplexities: Of each sample's gold answer under the model of today. A high one also
            marks a wrong gold answer.
        is_tool: Whether the sample's last turn calls a tool.
        ratio: Share kept of each class, rounded down, in [0, 1].

    Returns:
        Positions by falling perplexity, of equal ones the first before.

    Raises:
        ShapeError: The two differ in length, a perplexity is not finite (leave that sample out),
            or ratio is no share.

    Source: iTool (Zeng et al., 2025).
    """
    require_one_length(perplexities=perplexities, is_tool=is_tool)
    require_numbers(perplexities=perplexities)
    if not 0 <= ratio <= 1:
        raise ShapeError(f"ratio is {ratio}, expected a share from 0 to 1")
    found = []
    for wanted in (True, False):
        members = [place for place, tool in enumerate(is_tool) if bool(tool) == wanted]
        members.sort(key=lambda place: -perplexities[place])
        found.append(members[: int(ratio * len(members))])
    return Deficient(*found)


def step_preference(
    values: Sequence[float],
    texts: Sequence[str],
    *,
    min_gap: float = 0.1,
    max_overlap: float = 0.95,
    min_chosen: float = -0.3,
) -> StepPreference:
    """Pair the best child of a node with the worst, unless they hardly differ or both are bad.

    The first of equal values is taken, for both sides. Reasons against are looked at in this
    order: fewer than two children, a gap below min_gap (or none), an overlap above max_overlap, a
    chosen value below min_chosen; what lies on a limit passes.

    Args:
        values: Of each child, the sum of its rewards, not divided by its visits.
        texts: Of each child's step.
        min_gap: Between the two values, >= 0.
        max_overlap: Of `word_overlap`, in [0, 1].
        min_chosen: Of the best child's value.

    Raises:
        ShapeError: The two differ in length, a value is not finite or a limit out of range.

    Source: iTool (Zeng et al., 2025), limits of its code; the order of the reasons is a
        reconstruction.
    """
    require_one_length(values=values, texts=texts)
    require_numbers(values=values)
    if min_gap < 0 or not 0 <= max_overlap <= 1:
        raise ShapeError(
            f"min_gap is {min_gap} and max_overlap {max_overlap}, expected at least 0 and a share"
        )
    if len(values) < 2:
        return StepPreference("too_few_children")
    chosen = max(range(len(values)), key=values.__getitem__)
    rejected = min(range(len(values)), key=values.__getitem__)
    if values[chosen] - values[rejected] < min_gap or chosen == rejected:
        return StepPreference("gap_too_small")
    if word_overlap(texts[chosen], texts[rejected]) > max_overlap:
        return StepPreference("too_similar")
    if values[chosen] < min_chosen:
        return StepPreference("chosen_too_poor")
    return StepPreference("ok", ChosenRejected(chosen, rejected))
