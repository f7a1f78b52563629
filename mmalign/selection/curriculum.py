"""The order in which an epoch trains on its pairs: clear ones first."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from mmalign.errors import ShapeError
from mmalign.selection.candidates import require_numbers, require_one_length

__all__ = ["Curriculum", "curriculum_order", "order_correlation", "prediction_gap"]


class Curriculum(NamedTuple):
    """The pairs of one epoch, ordered."""

    scores: list[float]
    """Of each pair, in the order in which the pairs were given."""
    order: list[int]
    """Positions of the pairs, the first to train on first."""


def prediction_gap(
    chosen_token_logps: Sequence[float], rejected_token_logps: Sequence[float]
) -> float:
    """How much likelier a token of the chosen response is than one of the rejected.

        gap = mean of chosen_token_logps - mean of rejected_token_logps

    Args:
        chosen_token_logps: Nats, under the weights of today, of the whole response: steps that
            both sides share count on both.
        rejected_token_logps: The same for the rejected response.

    Returns:
        Nats per token; above 0 where the policy agrees with the pair.

    Raises:
        ShapeError: A response has no token, or a log-probability is not finite.

    Source: AlphaLLM-CPL (Wang et al., 2024); the mean over tokens is a reconstruction.
    """
    require_numbers(
        chosen_token_logps=chosen_token_logps, rejected_token_logps=rejected_token_logps
    )
    if not (chosen_token_logps and rejected_token_logps):
        raise ShapeError("a response has no token; drop the pair")
    chosen_mean = math.fsum(chosen_token_logps) / len(chosen_token_logps)
    return chosen_mean - math.fsum(rejected_token_logps) / len(rejected_token_logps)


def curriculum_order(
    reward_gaps: Sequence[float],
    prediction_gaps: Sequence[float],
    *,
    balance: float = 0.5,
    prediction_gap_sign: Literal[-1, 1] = 1,
    scale: Literal["minmax", "rank"] = "minmax",
) -> Curriculum:
    """Order pairs by how clear they are to the reward and to the policy; clearest first.

        score = scaled(reward_gap) + balance * prediction_gap_sign * scaled(prediction_gap)

    Coupled over all pairs of the epoch, step pairs and complete ones together. To be called
    before each epoch, as the policy changes the second term; a loader must not shuffle after it.

    Args:
        reward_gaps: What the reward says: chosen minus rejected, > 0.
        prediction_gaps: What the policy says, of `prediction_gap`.
        balance: alpha, >= 0; 0 orders by the reward alone, the same in every epoch.
        prediction_gap_sign: 1 trains first on what the policy has right already, -1 last.
        scale: `minmax` brings each gap to [0, 1] by (gap - min) / (max - min), 0 where all are
            equal; `rank` takes the share of the other pairs with a smaller gap.

    Returns:
        Scores, and the order by falling score; equal ones keep the order of the list.

    Raises:
        ShapeError: The two differ in length, or hold NaN; balance is below 0.

    Source: AlphaLLM-CPL (Wang et al., 2024); balance is the paper's, both scales and the sign
        are a reconstruction.
    """
    require_one_length(reward_gaps=reward_gaps, prediction_gaps=prediction_gaps)
    require_numbers(reward_gaps=reward_gaps, prediction_gaps=prediction_gaps)
    if not 0 <= balance < math.inf:
        raise ShapeError(f"balance is {balance}, expected a finite number of at least 0")
    scaled = _minmax if scale == "minmax" else _rank
    scores = [
        clear + balance * prediction_gap_sign * known
        for clear, known in zip(scaled(reward_gaps), scaled(prediction_gaps), strict=True)
    ]
    return Curriculum(scores, sorted(range(len(scores)), key=lambda place: -scores[place]))


def order_correlation(earlier: Sequence[int], later: Sequence[int]) -> float:
    """Spearman's correlation of the orders of two epochs: 1 where nothing moved.

        rho = 1 - 6 * sum of (move of a pair)^2 / (n * (n^2 - 1))

    Args:
        earlier: Positions of the same pairs, in the order of one epoch.
        later: In the order of another.

    Returns:
        In [-1, 1].

    Raises:
        ShapeError: Not two orders of the same pairs, or fewer than two pairs.
    """
    if sorted(earlier) != sorted(later) or len(set(earlier)) != len(earlier) or len(earlier) < 2:
        raise ShapeError(
            f"expected two orders of the same two or more pairs, found {len(earlier)} and "
            f"{len(later)} positions"
        )
    place = {pair: index for index, pair in enumerate(later)}
    moves = sum((place[pair] - index) ** 2 for index, pair in enumerate(earlier))
    return 1 - 6 * moves / (len(earlier) * (len(earlier) ** 2 - 1))


def _minmax(values: Sequence[float]) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]


def _rank(values: Sequence[float]) -> list[float]:
    rank = {value: place for place, value in reversed(list(enumerate(sorted(values))))}
    return [rank[value] / max(1, len(values) - 1) for value in values]
