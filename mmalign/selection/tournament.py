"""Which two of a prompt's responses become its pair: by scores, or by duels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmalign.errors import RecordError

__all__ = [
    "BestAndWorst",
    "DuelRound",
    "Tournament",
    "best_and_worst",
    "duel_round",
    "knockout_tournament",
    "score_targets",
]

Floats = npt.NDArray[np.float64]


class BestAndWorst(NamedTuple):
    """The places, counted from 0, of two responses among a prompt's candidates."""

    best: int
    worst: int
    keep: bool
    """False where nothing tells the two apart; the prompt then gives no pair."""


def best_and_worst(scores: Sequence[float] | Floats) -> BestAndWorst:
    """The response with the highest score and the one with the lowest.

    Args:
        scores: One for each candidate: a reward, a win rate, a target.

    Returns:
        Of equal scores the first counts, at the top as at the bottom; `keep` is false where all
        scores are equal.

    Raises:
        RecordError: Fewer than 2 scores, or one is not finite.

    Source: INPO (Zhang et al., 2024) with a reward model; also APO and GPO.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise RecordError(f"scores have the shape {list(values.shape)}, expected 2 or more numbers")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise RecordError(f"scores[{bad[0]}] is {values[bad[0]]}, expected a finite number")
    best, worst = int(values.argmax()), int(values.argmin())
    return BestAndWorst(best, worst, keep=bool(values[best] > values[worst]))


def score_targets(logits: npt.ArrayLike) -> Floats:
    """How far each response is ahead of all responses of its prompt, in both orders.

        target[i] = mean over all K columns j, i itself included, of (logits[i, j] - logits[j, i])

    Args:
        logits: [K, K], scores over tau of `preference_logits` for one prompt.

    Returns:
        [K], sum 0. Of a skew-symmetric table it is twice the mean of each row, which halves the
        beta of `gpo_loss` in effect; the released code does so.

    Raises:
        RecordError: Not a square table of 2 responses or more, or an entry is not finite.

    Source: GPO (Zhang et al., 2024), from its code.
    """
    table = np.asarray(logits, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise RecordError(f"logits have the shape {list(table.shape)}, expected [K, K] with K >= 2")
    if not np.isfinite(table).all():
        raise RecordError("logits hold NaN or infinity, expected finite scores")
    targets: Floats = (table - table.T).mean(axis=1)
    return targets


class Tournament(NamedTuple):
    """What a knock-out tournament found."""

    best: int
    worst: int
    keep: bool
    """Whether the best also beats the worst; if not, the prompt gives no pair."""
    comparisons: int


def knockout_tournament(
    num_candidates: int, win_probability: Callable[[int, int], float]
) -> Tournament:
    """The best and the worst of a prompt's candidates, by few comparisons.

    A first round pairs the candidates in order. Its winners play on for the best, round by
    round, neighbours in order; its losers play on in the same way, with the loser of each duel
    going on, for the worst. At last the best meets the worst. That makes 3/2 * K - 1
    comparisons: 11 for 8 candidates, where all pairs would be 28.

    Args:
        num_candidates: K, a power of 2; candidates are counted from 0.
        win_probability: The judge: how likely the first of two candidates is preferred to the
            second. It is asked in one order only; a tie of 1/2 goes to the first, except that
            the best must win its last duel by more.

    Returns:
        Both, whether the best beats the worst, and the number of comparisons.

    Raises:
        RecordError: K is no power of 2, or the judge answers no probability.

    Source: INPO (Zhang et al., 2024).
    """
    if num_candidates < 2 or num_candidates & (num_candidates - 1):
        raise RecordError(
            f"a tournament needs 2, 4, 8 ... candidates, found {num_candidates}; draw another "
            f"number of responses or choose by scores"
        )

    def play(contestants: Sequence[int]) -> DuelRound:
        pairs = zip(contestants[0::2], contestants[1::2], strict=True)
        return duel_round(contestants, [win_probability(*pair) for pair in pairs])

    first = play(range(num_candidates))
    comparisons = num_candidates // 2
    winners, losers = first.winners, first.losers
    while len(winners) > 1:
        comparisons += len(winners)  # half as many duels in each of the two brackets
        winners, losers = play(winners).winners, play(losers).losers
    best, worst = winners[0], losers[0]
    last = win_probability(best, worst)
    _require_probability(last)
    return Tournament(best, worst, keep=last > 0.5, comparisons=comparisons + 1)


class DuelRound(NamedTuple):
    """Who won and who lost, in the order of the duels."""

    winners: list[int]
    losers: list[int]


def duel_round(contestants: Sequence[int], first_wins: Sequence[float]) -> DuelRound:
    """One round of a tournament, for a judge that is asked for all duels at once.

    Args:
        contestants: Candidates in order; neighbours play, the first with the second and so on.
        first_wins: For each duel, the probability that its first candidate is preferred; from
            1/2 on the first wins.

    Raises:
        RecordError: The number of duels does not fit, or an entry is no probability.
    """
    if len(contestants) != 2 * len(first_wins):
        raise RecordError(
            f"{len(contestants)} contestants and {len(first_wins)} duels; expected one duel for "
            f"two contestants"
        )
    result = DuelRound([], [])
    for first, second, probability in zip(
        contestants[0::2], contestants[1::2], first_wins, strict=True
    ):
        _require_probability(probability)
        winner, loser = (first, second) if probability >= 0.5 else (second, first)
        result.winners.append(winner)
        result.losers.append(loser)
    return result


def _require_probability(value: float) -> None:
    if not 0 <= value <= 1:
        raise RecordError(f"the judge answered {value}, expected a probability")
