"""Losses on several scored answers to one prompt, and the bandit on which they are compared.

Left out: PPO, moving averages of the baseline, and drawing the answers.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.pairwise import dpo_loss, ipo_loss
from mmalign.objectives.sums import require_positive, require_same_shape
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "BanditRewards",
    "GroupLoss",
    "RewardPairs",
    "bandit_rewards",
    "best_of_n_loss",
    "data_policy_actions",
    "reinforce_loss",
    "reward_pairs",
    "reward_pairs_loss",
    "rwr_loss",
]


class GroupLoss(NamedTuple):
    """What an objective says about each group of answers."""

    loss: Tensor
    """[B], to be minimised; the trainer averages it over the global batch of prompts."""
    best_logps: Tensor
    """[B], nats, log-probability of each group's best answer, detached."""
    worst_logps: Tensor
    """[B], the same for the worst answer."""


class RewardPairs(NamedTuple):
    """All P = N (N - 1) / 2 pairs of the answers of each group."""

    chosen: Tensor
    """[B, P], place of the better answer, in the order (0, 1), (0, 2) ... (N - 2, N - 1)."""
    rejected: Tensor
    """[B, P], place of the other one."""
    kept: Tensor
    """[B, P], true where the rewards are far enough apart."""


class BanditRewards(NamedTuple):
    """Three rewards of one action in (-1, 1), of the actions' shape."""

    r1: Tensor
    """Wide, with its peak at 0.7, where the data policy has little mass."""
    r2: Tensor
    """Narrow, with the same peak."""
    r3: Tensor
    """Narrow, with its peak at -0.7, inside the data."""


def best_of_n_loss(
    policy_logps: Tensor,
    rewards: Tensor,
    ref_logps: Tensor | None = None,
    *,
    negative: Literal["none", "worst", "sum", "average"] = "none",
    negative_weight: float = 0.0,
) -> GroupLoss:
    """Fine-tune on the best answer of a group, and push others down where asked.

        none:     loss = -lp_best
        worst:    loss = -lp_best + negative_weight * lp_worst
        sum:      loss = -lp_best + negative_weight * (sum over the answers but the best of lp)
        average:  the same as sum, with the bracket over N - 1

    The negative terms have no lower bound: keep negative_weight small and clip gradients.

    Args:
        policy_logps: [B, N], nats, lp of each answer: summed over its tokens, or averaged over
            them as rejection sampling for fine-tuning does; carries gradient.
        rewards: [B, N], larger is better; of equal ones the first is the best and the worst.
        ref_logps: [B, N], taken off policy_logps where given (the code's `constrained`); it
            changes the loss, never its gradient.
        negative: Which answers are pushed down.
        negative_weight: beta, >= 0; 0.1 and less.

    Returns:
        Loss per group [B].

    Raises:
        ShapeError: The tensors are not [B, N] of one shape, or there is no other answer to push
            down.

    Source: Tajwar et al. (2024), best-of-N and its variants with a negative gradient. The code
        never divides its constrained average by N - 1.
    """
    _require_groups(2 if negative != "none" else 1, policy_logps=policy_logps, rewards=rewards)
    best_places, worst_places = rewards.argmax(-1), rewards.argmin(-1)  # the first of equal ones
    logps = policy_logps
    if ref_logps is not None:
        require_same_shape(policy_logps=policy_logps, ref_logps=ref_logps)
        logps = policy_logps - ref_logps
    best = _at(logps, best_places)
    others = logps.sum(-1) - best
    pushed_down = {
        "none": torch.zeros_like(best),
        "worst": _at(logps, worst_places),
        "sum": others,
        "average": others / max(logps.shape[1] - 1, 1),
    }[negative]
    return _group_loss(-best + negative_weight * pushed_down, policy_logps, rewards)


def rwr_loss(
    policy_logps: Tensor,
    rewards: Tensor,
    *,
    temperature: float,
    lowest_weight: float = 0.0,
    highest_weight: float = math.inf,
) -> GroupLoss:
    """Fine-tune on all answers, each weighted by its reward (reward-weighted regression).

        loss = mean over the answers of -exp(reward / temperature) * lp

    Args:
        policy_logps: [B, N], nats; carries gradient.
        rewards: [B, N]; taking a constant off all of them only scales the loss.
        temperature: > 0; large values make it plain fine-tuning on all answers.
        lowest_weight: The weights are clipped to [lowest_weight, highest_weight]; off by default.
        highest_weight: See lowest_weight.

    Returns:
        Loss per group [B].

    Raises:
        ShapeError: The tensors are not [B, N] of one shape, or temperature is not positive.

    Source: RWR as in Tajwar et al. (2024).
    """
    require_positive(temperature=temperature)
    _require_groups(1, policy_logps=policy_logps, rewards=rewards)
    weights = torch.exp(rewards.detach() / temperature).clamp(lowest_weight, highest_weight)
    return _group_loss((-weights * policy_logps).mean(-1), policy_logps, rewards)


def reinforce_loss(
    policy_logps: Tensor, rewards: Tensor, *, baseline: float | Tensor, reward_std: float = 1.0
) -> GroupLoss:
    """Raise the answers above a baseline, lower those below it.

        loss = mean over the answers of -(reward - baseline) / reward_std * lp

    Args:
        policy_logps: [B, N], nats, of answers that the policy just drew; carries gradient.
        rewards: [B, N].
        baseline: Moving average of the rewards, detached; without one, positive rewards push
            every answer up.
        reward_std: Running standard deviation, by which the bandit's code divides; 1 is the
            paper.

    Returns:
        Loss per group [B]; its gradient, not its value, has a meaning.

    Raises:
        ShapeError: The tensors are not [B, N] of one shape, or reward_std is not positive.

    Source: REINFORCE as in Tajwar et al. (2024).
    """
    require_positive(reward_std=reward_std)
    _require_groups(1, policy_logps=policy_logps, rewards=rewards)
    centre = baseline.detach() if isinstance(baseline, Tensor) else baseline
    advantages = (rewards.detach() - centre) / reward_std
    return _group_loss((-advantages * policy_logps).mean(-1), policy_logps, rewards)


def reward_pairs_loss(
    policy_logps: Tensor,
    ref_logps: Tensor,
    rewards: Tensor,
    *,
    beta: float,
    min_gap: float = 0.0,
    pair_loss: Literal["dpo", "ipo", "ipo_code"] = "dpo",
    kept_per_group: Tensor | None = None,
) -> GroupLoss:
    """A pairwise loss on all pairs of a group's answers, ordered by reward.

        loss = (sum over the group's kept pairs of pair_loss) / kept_per_group

    Coupled over the batch: its mean over the groups is one mean over the kept pairs of all
    groups together, 0 with gradient 0 where no pair is kept.

    Args:
        policy_logps: [B, N], nats; carries gradient.
        ref_logps: [B, N], nats, under the policy that made the data; carries no gradient.
        rewards: [B, N].
        beta: Inverse temperature, > 0; for `ipo_code` the margin sought.
        min_gap: Pairs whose rewards are nearer are skipped and not counted, >= 0.
        pair_loss: `dpo`, `ipo` with the margin 1 / (2 beta), or `ipo_code`, whose margin is
            beta, as in the bandit's code.
        kept_per_group: Scalar, kept pairs over groups, both of the global batch; None counts
            this batch.

    Returns:
        Loss per group [B].

    Raises:
        ShapeError: The tensors are not [B, N] of one shape with N >= 2, min_gap is negative or
            beta not positive.

    Source: Tajwar et al. (2024), DPO and IPO on N answers.
    """
    require_positive(beta=beta)
    _require_groups(2, policy_logps=policy_logps, ref_logps=ref_logps, rewards=rewards)
    pairs = reward_pairs(rewards, min_gap=min_gap)
    logps = [
        values.gather(1, places).flatten()
        for values in (policy_logps, ref_logps)
        for places in (pairs.chosen, pairs.rejected)
    ]
    losses = _PAIR_LOSSES[pair_loss](beta)(*logps).loss.view_as(pairs.kept)
    if kept_per_group is None:
        kept_per_group = pairs.kept.to(losses.dtype).sum() / len(losses)
    num_kept = kept_per_group.to(losses.dtype).clamp(min=torch.finfo(losses.dtype).tiny)
    return _group_loss(losses.where(pairs.kept, 0.0).sum(-1) / num_kept, policy_logps, rewards)


def reward_pairs(rewards: Tensor, *, min_gap: float = 0.0) -> RewardPairs:
    """All pairs of a group's answers, the one of larger reward as the chosen one.

    Args:
        rewards: [B, N], N >= 2; of two equal ones the later answer is chosen.
        min_gap: Smallest difference of rewards that a kept pair has, >= 0.

    Raises:
        ShapeError: rewards is not [B, N] with N >= 2, or min_gap is negative.

    Source: Tajwar et al. (2024), and its bandit's code for ties.
    """
    _require_groups(2, rewards=rewards)
    if not min_gap >= 0:
        raise ShapeError(f"min_gap is {min_gap}, expected a number >= 0")
    num_answers = rewards.shape[1]
    places = torch.triu_indices(num_answers, num_answers, offset=1, device=rewards.device)
    first, second = places[0], places[1]
    gaps = rewards.detach()[:, first] - rewards.detach()[:, second]
    return RewardPairs(
        chosen=torch.where(gaps > 0, first, second),
        rejected=torch.where(gaps > 0, second, first),
        kept=gaps.abs() >= min_gap,
    )


def bandit_rewards(actions: Tensor) -> BanditRewards:
    """The three rewards of the study's bandit, in (0, 1], 1 at the peak.

        R1 = exp(-((a - 0.7) / 0.75)^2)
        R2 = exp(-((a - 0.7) / 0.25)^2)
        R3 = exp(-((a + 0.7) / 0.25)^2)

    Args:
        actions: Of any shape, in (-1, 1).

    Source: Tajwar et al. (2024).
    """
    return BanditRewards(
        r1=torch.exp(-(((actions - 0.7) / 0.75) ** 2)),
        r2=torch.exp(-(((actions - 0.7) / 0.25) ** 2)),
        r3=torch.exp(-(((actions + 0.7) / 0.25) ** 2)),
    )


def data_policy_actions(uniforms: Tensor) -> Tensor:
    """Actions of the policy that makes the bandit's data: tanh of a Cauchy variable.

    Args:
        uniforms: Of any shape, drawn uniformly from (0, 1).

    Returns:
        Actions in (-1, 1), with the median tanh(-0.7): location -0.7, scale 0.4.

    Source: Tajwar et al. (2024), its bandit's code.
    """
    return torch.tanh(-0.7 + 0.4 * torch.tan(math.pi * (uniforms - 0.5)))


_PAIR_LOSSES: Mapping[str, Callable[[float], Callable[..., PreferenceLoss]]] = MappingProxyType(
    {
        "dpo": lambda beta: partial(dpo_loss, beta=beta),
        "ipo": lambda beta: partial(ipo_loss, beta=beta),
        "ipo_code": lambda beta: partial(ipo_loss, beta=1 / (2 * beta)),
    }
)


def _group_loss(loss: Tensor, policy_logps: Tensor, rewards: Tensor) -> GroupLoss:
    return GroupLoss(
        loss=loss,
        best_logps=_at(policy_logps.detach(), rewards.argmax(-1)),
        worst_logps=_at(policy_logps.detach(), rewards.argmin(-1)),
    )


def _at(values: Tensor, places: Tensor) -> Tensor:
    return values.gather(1, places.unsqueeze(1)).squeeze(1)


def _require_groups(num_answers: int, **tensors: Tensor) -> None:
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    if len(shapes) > 1 or any(len(s) != 2 or s[1] < num_answers for s in shapes):
        found = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise ShapeError(
            f"expected [B, N] of one shape with N >= {num_answers} answers, found {found}"
        )
