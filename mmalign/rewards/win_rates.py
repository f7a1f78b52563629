"""How often each response of a group wins, as its reward."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmalign.errors import RecordError

__all__ = [
    "SymmetricPreferences",
    "both_orders_mean",
    "queue_win_rates",
    "spread_over_steps",
    "win_rates",
]

Floats = npt.NDArray[np.float64]


def win_rates(preferences: npt.ArrayLike, *, count_self: bool = False) -> Floats:
    """Reward each response of a group by how often it is preferred to the others.

    Args:
        preferences: [N, N], entry i, j the probability that i is preferred to j. The diagonal
            is not read.
        count_self: Whether each response also plays against itself, which is a tie: so GPM and
            SPPO take the mean over all N; SPO and PairRM's ranking leave it out.

    Returns:
        [N], in [0, 1]; their mean is 1/2 where entry j, i is 1 minus entry i, j. They rank the
        group and do not tell whether it is good.

    Raises:
        RecordError: Not a square table of 2 responses or more, or an entry is no probability.

    Source: SPO (Swamy et al., 2024).
    """
    table = _square_table(preferences)
    np.fill_diagonal(table, 0.5 if count_self else 0.0)
    rates: Floats = table.sum(axis=1) / (len(table) - (not count_self))
    return rates


def queue_win_rates(preferences: npt.ArrayLike) -> Floats:
    """Reward each new response by how often it is preferred to those of earlier policies.

    Args:
        preferences: [N, Q], entry i, q the probability that the new response i is preferred to
            the stored response q.

    Returns:
        [N], in [0, 1], the mean over the queue; above 1/2 on average while the policy improves.

    Raises:
        RecordError: Not a table, an empty queue, or an entry is no probability.

    Source: SPO (Swamy et al., 2024), its variant for control; the details are a reconstruction.
    """
    table = _probabilities(preferences)
    if table.ndim != 2 or not table.shape[1]:
        raise RecordError(f"preferences have the shape {list(table.shape)}, expected [N, Q], Q > 0")
    rates: Floats = table.mean(axis=1)
    return rates


def spread_over_steps(reward: float, *, num_steps: int) -> list[float]:
    """The reward of a whole rollout, shared evenly among its steps.

    Args:
        reward: Of the rollout, finite.
        num_steps: 1 or more.

    Returns:
        num_steps equal numbers, whose sum is the reward.

    Raises:
        RecordError: No step, or the reward is not finite.

    Source: SPO (Swamy et al., 2024), its variant for control; the details are a reconstruction.
    """
    if num_steps < 1 or not np.isfinite(reward):
        raise RecordError(
            f"cannot share a reward of {reward} among {num_steps} steps; expected a finite reward "
            f"and 1 step or more"
        )
    return [reward / num_steps] * num_steps


class SymmetricPreferences(NamedTuple):
    """A judge's preferences without its bias of position."""

    preferences: Floats
    """[N, N], entry j, i is 1 minus entry i, j, the diagonal 1/2."""
    largest_bias: float
    """By how much the two orders of a pair contradicted each other at most; above 0.05 the
    judge deserves a warning."""


def both_orders_mean(preferences: npt.ArrayLike) -> SymmetricPreferences:
    """What a judge prefers on average over both orders of each pair.

    Args:
        preferences: [N, N], entry i, j the judge's probability that i, shown first, is preferred
            to j.

    Returns:
        The mean of entry i, j and 1 minus entry j, i, and the largest |i, j + j, i - 1|.

    Raises:
        RecordError: Not a square table of 2 responses or more, or an entry is no probability.
    """
    table = _square_table(preferences)
    np.fill_diagonal(table, 0.5)
    return SymmetricPreferences(
        preferences=(table + 1 - table.T) / 2,
        largest_bias=float(np.abs(table + table.T - 1).max()),
    )


def _square_table(preferences: npt.ArrayLike) -> Floats:
    table = _probabilities(preferences)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise RecordError(
            f"preferences have the shape {list(table.shape)}, expected [N, N] with N >= 2"
        )
    return table


def _probabilities(preferences: npt.ArrayLike) -> Floats:
    table = np.array(preferences, dtype=np.float64)
    bad = np.argwhere(~((table >= 0) & (table <= 1)))  # NaN is neither
    if len(bad):
        place = tuple(int(index) for index in bad[0])
        raise RecordError(
            f"preferences{list(place)} is {table[place]}, expected a probability; ask the judge "
            f"again or drop the response"
        )
    return table
