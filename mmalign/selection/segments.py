"""LongDPO's tree search: which segment of a long answer goes on, and which one it is paired with.

Left out: the released fallback that makes up a rejected segment by swapping words.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mmalign.errors import ShapeError
from mmalign.selection.candidates import require_numbers, require_one_length
from mmalign.selection.trees import puct_score

__all__ = [
    "SegmentChoice",
    "choose_segments",
    "contradicts_memory",
    "length_score",
    "principle_score",
    "puct_bounds",
    "segment_value",
    "top_suggestions",
    "ucb_bound",
]

NO_SCORE = 2.5
"""What a principle is worth that the judge left out."""
PUCT_BASE = 19652
PUCT_INIT = 1.25


class SegmentChoice(NamedTuple):
    """The pair that one depth of the tree gives."""

    chosen: int | None
    """Index of the segment that the answer goes on with; None where all contradict the facts."""
    rejected: int | None
    """Index of one of its siblings; None without a chosen segment or a sibling."""
    refine: bool
    """Whether the chosen segment is to be rewritten by critique first."""


def choose_segments(
    values: Sequence[float],
    bounds: Sequence[float],
    contradicting: Sequence[bool],
    *,
    u: float,
    eta: float = 2.5,
) -> SegmentChoice:
    """Pair the best consistent candidate of a depth with a random sibling.

    The rejected segment is drawn from all siblings, those that contradict included, and may be
    the better one by value: compare the values where that must not be.

    Args:
        values: Quality of each candidate, `segment_value`, in [1, 5]; without a length score.
        bounds: What candidates are ranked by, `ucb_bound` or `puct_bounds`.
        contradicting: Whether each contradicts the facts so far, `contradicts_memory`.
        u: Random number in [0, 1) that draws the rejected one.
        eta: A chosen segment of a value below it is to be refined.

    Returns:
        The largest bound among candidates that do not contradict, the first on ties; without one
        no pair, a reconstruction: the released code takes the first candidate then.

    Raises:
        ShapeError: The three differ in length, hold NaN, or u is not in [0, 1).

    Source: LongDPO (Ping et al., 2025).
    """
    require_one_length(values=values, bounds=bounds, contradicting=contradicting)
    require_numbers(values=values, bounds=bounds)
    if not 0 <= u < 1:
        raise ShapeError(f"u is {u}, expected a number in [0, 1)")
    kept = [i for i, contradicts in enumerate(contradicting) if not contradicts]
    if not kept:
        return SegmentChoice(None, None, refine=False)
    chosen = max(kept, key=lambda i: bounds[i])  # max keeps the first of equals
    siblings = [i for i in range(len(values)) if i != chosen]
    rejected = siblings[math.floor(u * len(siblings))] if siblings else None
    return SegmentChoice(chosen, rejected, refine=values[chosen] < eta)


def segment_value(principles: Sequence[Sequence[float] | None]) -> float:
    """Mean of a segment's scores on the judge's principles (seven in the paper).

    Args:
        principles: For each principle the judge's weights of the scores 1 to 5, or None.

    Returns:
        In [1, 5].

    Raises:
        ShapeError: There is no principle, or its weights are not those of five scores.

    Source: LongDPO (Ping et al., 2025), with expectations as in its code.
    """
    if not principles:
        raise ShapeError("expected the weights of at least one principle, found none")
    return sum(principle_score(weights) for weights in principles) / len(principles)


def principle_score(weights: Sequence[float] | None) -> float:
    """Expected score under the judge's weights: sum of score * weight over sum of weight.

    Args:
        weights: How likely each of the scores 1 to 5 is, >= 0, of any sum; None where the judge
            left the principle out or its reply could not be read.

    Returns:
        In [1, 5]; 2.5 for None and for weights that are all 0.

    Raises:
        ShapeError: The weights are not five numbers from 0 on.
    """
    if weights is None:
        return NO_SCORE
    if len(weights) != 5 or not all(0 <= weight < math.inf for weight in weights):
        raise ShapeError(f"expected five weights from 0 on, found {list(weights)}")
    total = sum(weights)
    if total == 0:
        return NO_SCORE
    return sum(score * weight for score, weight in enumerate(weights, start=1)) / total


def ucb_bound(value: float, *, visits: int, parent_visits: int, alpha: float = 1.0) -> float:
    """A candidate's value and a bonus for having been visited little.

        bound = value + alpha * sqrt(2 * max(0, ln(parent_visits / (1 + visits))))

    Args:
        value: `segment_value`.
        visits: Of the candidate, >= 0.
        parent_visits: Of the segment before it, >= 1.
        alpha: Weight of the bonus; 0 ranks by value alone.

    Raises:
        ShapeError: A number of visits is out of range.

    Source: LongDPO (Ping et al., 2025); the clamp at 0 is a reconstruction.
    """
    _require_visits([visits], parent_visits)
    ratio = parent_visits / (1 + visits)
    return value + alpha * math.sqrt(2 * max(0.0, math.log(ratio)))


def puct_bounds(
    values: Sequence[float],
    visits: Sequence[int],
    mean_logps: Sequence[float],
    *,
    parent_visits: int,
) -> list[float]:
    """The bounds that the released code ranks by, in place of `ucb_bound`.

        prior = exp(mean_logp) / (sum of the same over all siblings)
        bound = value + (ln((N + 19652 + 1) / 19652) + 1.25) * sqrt(N) / (visits + 1) * prior

    Args:
        values: `segment_value` of each sibling, those that contradict included.
        visits: Of each sibling, >= 0.
        mean_logps: Mean log-probability of a token of each sibling, nats.
        parent_visits: N, >= 1.

    Raises:
        ShapeError: The three differ in length, hold NaN, or a number of visits is out of range.

    Source: LongDPO's code.
    """
    require_one_length(values=values, visits=visits, mean_logps=mean_logps)
    require_numbers(values=values, mean_logps=mean_logps)
    _require_visits(visits, parent_visits)
    odds = [math.exp(mean_logp - max(mean_logps)) for mean_logp in mean_logps]
    rate = math.log((parent_visits + PUCT_BASE + 1) / PUCT_BASE) + PUCT_INIT
    return [
        puct_score(
            value, odd / sum(odds), parent_visits=parent_visits, visits=count, exploration=rate
        )
        for value, count, odd in zip(values, visits, odds, strict=True)
    ]


def contradicts_memory(
    similarities: Sequence[Sequence[float]],
    verdicts: Sequence[Sequence[bool]],
    *,
    threshold: float = 0.8,
) -> bool:
    """Whether a candidate contradicts a fact that the answer has stated before.

    Args:
        similarities: Cosine of each of its chunks to each fact, chunks by facts.
        verdicts: Whether the judge holds that chunk and fact contradict each other, in the same
            places; looked at only where the similarity reaches the threshold.
        threshold: Smallest cosine at which chunk and fact are about the same.

    Raises:
        ShapeError: The two tables differ in shape, or a cosine is NaN.

    Source: LongDPO (Ping et al., 2025), chunks of 128 words.
    """
    if [len(row) for row in similarities] != [len(row) for row in verdicts]:
        raise ShapeError("similarities and verdicts differ in shape, expected chunks by facts")
    for row in similarities:
        require_numbers(similarities=row)
    return any(
        similarity >= threshold and contradicts
        for row, row_verdicts in zip(similarities, verdicts, strict=True)
        for similarity, contradicts in zip(row, row_verdicts, strict=True)
    )


def top_suggestions(confidences: Sequence[float], *, num: int = 3) -> list[int]:
    """Indices of the critic's most confident suggestions, best first, earlier first on ties.

    Args:
        confidences: 1 to 5 in the paper.
        num: At most so many.

    Raises:
        ShapeError: A confidence is NaN.

    Source: LongDPO (Ping et al., 2025); their number is that of its code.
    """
    require_numbers(confidences=confidences)
    order = sorted(range(len(confidences)), key=lambda i: -confidences[i])  # sorted is stable
    return order[:num]


def length_score(*, actual_words: float, target_words: float) -> float:
    """How near a length comes to the one asked for; kept apart from `segment_value`.

        score = 10 * max(0, 1 - (target / actual - 1) / 3)    where too short
        score = 10 * max(0, 1 - (actual / target - 1) / 2)    elsewhere

    Args:
        actual_words: >= 0.
        target_words: > 0; where no length is asked for, there is no score.

    Returns:
        In [0, 10], 10 at the target; words too many cost more than words too few.

    Raises:
        ShapeError: A length is out of range.

    Source: LongDPO's code, which swaps the two arguments of LongWriter's score.
    """
    if not (0 <= actual_words < math.inf and 0 < target_words < math.inf):
        raise ShapeError(
            f"actual_words is {actual_words} and target_words is {target_words}, expected "
            f"actual_words >= 0 and target_words > 0"
        )
    if actual_words >= target_words:
        return 10 * max(0.0, 1 - (actual_words / target_words - 1) / 2)
    if 4 * actual_words <= target_words:
        return 0.0  # also where nothing was written
    return 10 * (1 - (target_words / actual_words - 1) / 3)


def _require_visits(visits: Sequence[int], parent_visits: int) -> None:
    if parent_visits < 1 or any(count < 0 for count in visits):
        raise ShapeError(
            f"visits are {list(visits)} under a parent of {parent_visits}, expected numbers "
            f"from 0 on under a parent of at least 1"
        )
