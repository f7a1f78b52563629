"""Draw preference data from the policy that is sought, by rejecting samples of the one at hand."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mmalign.errors import ShapeError
from mmalign.objectives.sums import require_positive
from mmalign.selection.candidates import ChosenRejected, require_numbers

__all__ = [
    "Accepted",
    "acceptance_probs",
    "baseline_reward",
    "first_round_pairs",
    "rejection_sample",
    "tournament_pairs",
]

_LEAST_PROB = 1e-6


class Accepted(NamedTuple):
    """What the sampler kept."""

    indices: list[int]
    """Candidates in the order of acceptance, early ones being better: shuffle before pairing."""
    num_uniforms: int
    """Draws used, one for each visit of a candidate."""


def baseline_reward(prob_beats_baseline: float) -> float:
    """The reward of a response that a ranker compared with one baseline response of the prompt.

        reward = logit(P(response beats baseline))

    Args:
        prob_beats_baseline: In [0, 1]; moved into [1e-6, 1 - 1e-6], which is a reconstruction.

    Returns:
        Nats, in [-13.8, 13.8]; the baseline itself has 0.

    Raises:
        ShapeError: No probability.

    Source: RSO (Liu et al., 2023).
    """
    _require_prob(prob_beats_baseline, "prob_beats_baseline")
    prob = min(max(prob_beats_baseline, _LEAST_PROB), 1 - _LEAST_PROB)
    return math.log(prob) - math.log1p(-prob)


def acceptance_probs(rewards: Sequence[float], *, beta: float) -> list[float]:
    """How likely each candidate is to be kept when it is visited; 1 for the best.

        prob = exp((reward - largest reward) / beta)

    Args:
        rewards: Of the candidates that are left.
        beta: Inverse temperature of the policy sought, > 0, on the scale of the rewards.

    Returns:
        In [0, 1], in the order of the candidates.

    Raises:
        ShapeError: A reward is not finite, or beta not positive.

    Source: RSO (Liu et al., 2023), algorithm 1.
    """
    require_positive(beta=beta)
    require_numbers(rewards=rewards)
    best = max(rewards, default=0.0)
    return [math.exp((reward - best) / beta) for reward in rewards]


def rejection_sample(
    rewards: Sequence[float],
    uniforms: Iterable[float],
    *,
    num_accepted: int = 8,
    beta: float = 0.5,
) -> Accepted:
    """Turn samples of the reference into samples of reference * exp(reward / beta), normalised.

    Pass by pass over the candidates that are left, each is kept where its draw lies below its
    `acceptance_probs`; the best reward is that at the start of the pass. It ends as soon as
    enough are kept, within a pass too. Every pass keeps at least the best, so it ends.

    A large beta keeps the first candidates, a small one the best, of which equal ones keep their
    order: best-of-n is its limit.

    Args:
        rewards: Of the reference's samples, all distinct texts, in the order of drawing.
        uniforms: Draws in [0, 1), taken one by one; may be endless.
        num_accepted: m; where there are fewer candidates, all are kept.
        beta: > 0, about the spread of the rewards of one prompt; where it is much smaller only
            the best is ever kept.

    Returns:
        Positions of the kept candidates and the number of draws.

    Raises:
        ShapeError: A reward is not finite, beta is not positive, or the draws run out or leave
            [0, 1).

    Source: RSO (Liu et al., 2023), algorithm 1.
    """
    draws = iter(uniforms)
    accepted: list[int] = []
    num_uniforms = 0
    left = list(range(len(rewards)))
    while left and len(accepted) < num_accepted:
        probs = acceptance_probs([rewards[place] for place in left], beta=beta)
        for place, prob in zip(left, probs, strict=True):
            draw = next(draws, math.nan)
            if not 0 <= draw < 1:
                raise ShapeError(
                    f"uniforms[{num_uniforms}] is {draw}, expected a number in [0, 1)"
                    + (", but they ran out" if math.isnan(draw) else "")
                )
            num_uniforms += 1
            if draw < prob:
                accepted.append(place)
            if len(accepted) == num_accepted:
                break
        left = [place for place in left if place not in accepted]
    return Accepted(accepted, num_uniforms)


def first_round_pairs(prob_first_wins: Sequence[Sequence[float]]) -> list[ChosenRejected]:
    """Pair neighbours: (0, 1), (2, 3) ... and choose by the ranker.

    The first of two wins where its probability is above 1/2, else the second; the last of an
    odd number stays without a pair.

    Args:
        prob_first_wins: [K][K], entry [i][j] the probability that i beats j.

    Raises:
        ShapeError: The matrix is not square, or an entry is no probability.

    Source: RSO (Liu et al., 2023), first-round-rank.
    """
    _require_square(prob_first_wins)
    return _play(list(range(len(prob_first_wins))), prob_first_wins)


def tournament_pairs(prob_first_wins: Sequence[Sequence[float]]) -> list[ChosenRejected]:
    """Let the winners play on until one is left: K - 1 pairs, round after round.

    Each round is played as in `first_round_pairs`, winners staying in order; the last of an odd
    number moves on without playing.

    Args:
        prob_first_wins: [K][K], entry [i][j] the probability that i beats j.

    Raises:
        ShapeError: The matrix is not square, or an entry is no probability.

    Source: RSO (Liu et al., 2023), tournament-rank.
    """
    _require_square(prob_first_wins)
    left = list(range(len(prob_first_wins)))
    pairs: list[ChosenRejected] = []
    while len(left) > 1:
        played = _play(left, prob_first_wins)
        pairs += played
        left = [pair.chosen for pair in played] + left[2 * len(played) :]
    return pairs


def _play(players: list[int], probs: Sequence[Sequence[float]]) -> list[ChosenRejected]:
    return [
        ChosenRejected(one, other) if probs[one][other] > 0.5 else ChosenRejected(other, one)
        for one, other in zip(players[::2], players[1::2], strict=False)
    ]


def _require_square(probs: Sequence[Sequence[float]]) -> None:
    for index, row in enumerate(probs):
        if len(row) != len(probs):
            raise ShapeError(
                f"prob_first_wins[{index}] has {len(row)} entries, expected {len(probs)}, one for "
                f"each response"
            )
        for prob in row:
            _require_prob(prob, f"prob_first_wins[{index}]")


def _require_prob(prob: float, name: str) -> None:
    if not 0 <= prob <= 1:
        raise ShapeError(f"{name} is {prob}, expected a probability")
