"""People who want different things: groups found by hard EM, and the policy of the worst-off group.

The reward of a group is linear in features of the response here, and the policy a table over few
answers. Left out: reward models that are networks, standardising them, PPO.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.diagnostics.tabular import kl_divergence, tilted_policy
from mmalign.errors import ShapeError
from mmalign.objectives.sums import require_finite, require_positive

__all__ = [
    "MaxMinPolicy",
    "Populations",
    "WorstGroup",
    "fit_populations",
    "maxmin_policy",
    "user_log_likelihoods",
    "worst_group",
]


class Populations(NamedTuple):
    """Groups of users and the linear reward of each."""

    weights: Tensor
    """[K, d], reward of group k is weights[k] @ features."""
    assignment: Tensor
    """[U], the group of each user under these weights."""
    history: tuple[tuple[int, ...], ...]
    """The assignment of each round; the last repeats the one before where EM stopped by itself."""
    log_likelihoods: Tensor
    """[U, K], nats, of each user's pairs under each group's reward."""


class WorstGroup(NamedTuple):
    """Whose reward the next update of the policy follows."""

    utilities: Tensor
    """[K], mean reward of each group."""
    group: int
    """The smallest utility, the first of equal ones."""
    rewards: Tensor
    """[B], that group's rewards of the samples."""


class MaxMinPolicy(NamedTuple):
    """The policy that is best for the worse-off of two groups."""

    weight: float
    """Of group 0 in the reward that the policy follows, in [0, 1]; group 1 has the rest."""
    logprobs: Tensor
    """[A], of each answer."""
    values: Tensor
    """[2], mean reward of each group minus beta * KL(policy || reference); equal where the weight
    lies between 0 and 1."""


def fit_populations(
    differences: Tensor,
    user_ids: Sequence[int],
    initial_weights: Tensor,
    *,
    learning_rate: float,
    steps_per_round: int,
    max_rounds: int = 10,
) -> Populations:
    """Groups of users with rewards of their own, by hard EM.

    E: each user, with all pairs, goes to the group of the largest log-likelihood, the first of
    equal ones. M: gradient ascent on the mean log sigmoid(weights @ difference) over the pooled
    pairs of a group's users, from its last weights; a group without users keeps them. It ends when
    an assignment repeats, before the M step, or after max_rounds.

    Args:
        differences: [M, d], features of the chosen minus those of the rejected response.
        user_ids: The user of each pair, 0 ... U - 1, each with one pair or more; a group found
            from very few pairs is a coin flip.
        initial_weights: [K, d], 2 <= K <= U; try several. From equal ones all users start in
            group 0.
        learning_rate: > 0.
        steps_per_round: Gradient steps of each M step.
        max_rounds: At most so many E steps; 10 is a reconstruction.

    Returns:
        Weights, assignment, its history and the log-likelihoods. A group may be empty: lower K.

    Raises:
        ShapeError: Shapes, user ids or K do not fit, or a number is NaN.

    Source: MaxMin-RLHF (Chakraborty et al., 2024), its EM.
    """
    users = _checked_users(differences, user_ids, initial_weights)
    require_positive(learning_rate=learning_rate)
    weights = initial_weights.detach().clone()
    history: list[tuple[int, ...]] = []
    for _ in range(max_rounds):
        assignment = user_log_likelihoods(differences, users, weights).argmax(-1)
        history.append(tuple(assignment.tolist()))
        if len(history) > 1 and history[-1] == history[-2]:
            break
        for group in range(len(weights)):
            own = differences[(assignment == group)[users]]
            if len(own):
                weights[group] = _ascend(weights[group], own, learning_rate, steps_per_round)
    log_likelihoods = user_log_likelihoods(differences, users, weights)
    return Populations(weights, log_likelihoods.argmax(-1), tuple(history), log_likelihoods)


def user_log_likelihoods(differences: Tensor, user_ids: Tensor, weights: Tensor) -> Tensor:
    """How well each group's reward explains each user's choices.

        sum over the user's pairs of log sigmoid(weights_k @ difference)

    Args:
        differences: [M, d].
        user_ids: [M], integers, 0 ... U - 1.
        weights: [K, d].

    Returns:
        [U, K], nats.
    """
    gains = F.logsigmoid(differences @ weights.T)
    num_users = int(user_ids.max()) + 1
    return gains.new_zeros(num_users, len(weights)).index_add(0, user_ids, gains)


def worst_group(sample_rewards: Tensor) -> WorstGroup:
    """The group that the current policy serves worst.

    Args:
        sample_rewards: [K, B], each group's reward of each sample, on comparable scales:
            standardise them on responses of the reference first (a reconstruction), or the group
            is chosen by its scale. The KL is the same for all groups and left out.

    Returns:
        Utilities, the group and its rewards; not the mean of the per-sample minima, which is
        smaller.

    Raises:
        ShapeError: Not [K, B], or a number is NaN or infinite.

    Source: MaxMin-RLHF (Chakraborty et al., 2024).
    """
    if sample_rewards.ndim != 2 or 0 in sample_rewards.shape:
        raise ShapeError(f"expected sample_rewards [K, B], found {list(sample_rewards.shape)}")
    require_finite(sample_rewards=sample_rewards)
    utilities = sample_rewards.mean(-1)
    group = int(utilities.argmin())
    return WorstGroup(utilities, group, sample_rewards[group])


def maxmin_policy(ref_logprobs: Tensor, rewards: Tensor, *, beta: float) -> MaxMinPolicy:
    """The exact max-min policy of two groups over a table of answers.

        policy_w is proportional to ref * exp((w * reward_0 + (1 - w) * reward_1) / beta)
        w minimises beta * log sum over answers of ref * exp((...) / beta)

    The slope of the dual, E_policy_w[reward_0 - reward_1], never falls in w: its root, found by
    bisection, is the weight, and 0 or 1 where there is none inside.

    Args:
        ref_logprobs: [A], normalised.
        rewards: [2, A].
        beta: Weight of the KL, > 0.

    Returns:
        Weight, policy and both groups' values.

    Raises:
        ShapeError: Not [A] and [2, A], a number is NaN, or beta is not positive.

    Source: MaxMin-RLHF (Chakraborty et al., 2024), its objective; two groups only.
    """
    require_positive(beta=beta)
    if ref_logprobs.ndim != 1 or rewards.shape != (2, *ref_logprobs.shape):
        raise ShapeError(
            f"expected ref_logprobs [A] and rewards [2, A], found {list(ref_logprobs.shape)} and "
            f"{list(rewards.shape)}"
        )
    require_finite(rewards=rewards)

    def policy_at(weight: float) -> Tensor:
        mixed = weight * rewards[0] + (1 - weight) * rewards[1]
        return tilted_policy(ref_logprobs, mixed, beta=beta)

    def slope(weight: float) -> float:
        return float((policy_at(weight).exp() * (rewards[0] - rewards[1])).sum())

    low, high = 0.0, 1.0
    if slope(low) >= 0:
        high = low
    elif slope(high) <= 0:
        low = high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    logprobs = policy_at(low)
    kl = kl_divergence(logprobs, ref_logprobs)
    return MaxMinPolicy(low, logprobs, (logprobs.exp() * rewards).sum(-1) - beta * kl)


def _ascend(weights: Tensor, differences: Tensor, learning_rate: float, num_steps: int) -> Tensor:
    for _ in range(num_steps):
        pulls = torch.sigmoid(-(differences @ weights))
        weights = weights + learning_rate * (pulls.unsqueeze(-1) * differences).mean(0)
    return weights


def _checked_users(differences: Tensor, user_ids: Sequence[int], initial_weights: Tensor) -> Tensor:
    if (
        differences.ndim != 2
        or initial_weights.ndim != 2
        or differences.shape[1] != initial_weights.shape[1]
        or len(user_ids) != len(differences)
    ):
        raise ShapeError(
            f"expected differences [M, d], M user ids and initial_weights [K, d], found "
            f"{list(differences.shape)}, {len(user_ids)} ids and {list(initial_weights.shape)}"
        )
    require_finite(differences=differences, initial_weights=initial_weights)
    num_users, num_groups = len(set(user_ids)), len(initial_weights)
    if set(user_ids) != set(range(num_users)):
        raise ShapeError(f"found the user ids {sorted(set(user_ids))}, expected 0 ... U - 1")
    if not 2 <= num_groups <= num_users:
        raise ShapeError(
            f"{num_groups} groups for {num_users} users, expected at least 2 groups and no more "
            f"than users"
        )
    return torch.tensor(user_ids, device=differences.device)
