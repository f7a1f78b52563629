"""What the rollouts of one prompt say about each other: means, deviations, advantages."""

import math
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import at_least_float32, require_one_per_pair

__all__ = [
    "AdvantageScale",
    "GroupStatistics",
    "group_advantages",
    "group_statistics",
    "mixed_groups",
]

AdvantageScale = Literal["group_std", "none", "batch_std", "leave_one_out"]
"""What a centred reward is divided by.

- `group_std`: the deviation of its group; GRPO, DAPO, GSPO.
- `none`: nothing; Dr.GRPO.
- `batch_std`: the deviation of all rewards of the batch; an option of TRL.
- `leave_one_out`: nothing, and the mean is that of the group's other rewards; RLOO.
"""

GroupId = TypeVar("GroupId", bound=Hashable)


class GroupStatistics(NamedTuple):
    """The rewards of a group, told to each of its rollouts."""

    means: Tensor
    """[B]; NaN in a group without any reward."""
    stds: Tensor
    """[B], unbiased (divisor n - 1); exactly 0 where all rewards are equal or only one is known."""
    num_scored: Tensor
    """[B], integers: rollouts of the group that have a reward."""


def group_statistics(rewards: Tensor, group_ids: Tensor) -> GroupStatistics:
    """Mean, deviation and number of the rewards in each rollout's group.

    Waits for the device, once a batch: not for use inside a loss.

    Args:
        rewards: [B], of the global batch, so that no group is cut; NaN or infinite where the
            reward is unknown, which leaves the rollout out.
        group_ids: [B], integers, equal for the rollouts of one prompt, in any order.

    Returns:
        One number per rollout each, at least float32, detached.

    Raises:
        ShapeError: The tensors are not [B] with the same B, or a group has a single rollout.

    Source: DeepSeekMath (Shao et al., 2024), sec. 4.1; the unbiased deviation as verl and TRL
        have it, since the paper does not say which.
    """
    require_one_per_pair(rewards=rewards, group_ids=group_ids)
    rewards = at_least_float32(rewards.detach())
    names, index, sizes = torch.unique(group_ids, return_inverse=True, return_counts=True)
    if (sizes < 2).any():
        raise ShapeError(
            f"group {names[sizes < 2][0].item()} has a single rollout, which has no mean to be "
            f"compared with; sample two or more, and give all rollouts of a prompt one id"
        )
    scored = rewards.isfinite()

    def group_sums(values: Tensor) -> Tensor:
        return values.new_zeros(len(names)).index_add(0, index, values)[index]

    num_scored = group_sums(scored.long())
    lowest = rewards.new_full((len(names),), math.inf).scatter_reduce(
        0, index, rewards.where(scored, math.inf), "amin"
    )[index]
    # counted from the lowest reward, equal rewards have a deviation of exactly 0
    above = (rewards - lowest).where(scored, 0.0)
    mean_above = group_sums(above) / num_scored.clamp(min=1)
    squares = group_sums((above - mean_above).where(scored, 0.0).square())
    return GroupStatistics(
        means=(lowest + mean_above).where(num_scored > 0, math.nan),
        stds=(squares / (num_scored - 1).clamp(min=1)).sqrt(),
        num_scored=num_scored,
    )


def group_advantages(
    rewards: Tensor,
    group_ids: Tensor,
    *,
    scale: AdvantageScale = "group_std",
    std_eps: float = 1e-6,
) -> Tensor:
    """How much better a rollout did than its group: GRPO's advantage, one per rollout.

        A = (reward - group mean) / (std + std_eps)

    Coupled over the batch. Waits for the device, once a batch: not for use inside a loss.

    Args:
        rewards: [B], of the global batch; NaN or infinite where unknown.
        group_ids: [B], integers, equal for the rollouts of one prompt.
        scale: What std is; with `none` the advantage is the centred reward itself.
        std_eps: Added to std outside its root, >= 0; 1e-6 in verl, 1e-4 in TRL.

    Returns:
        [B], detached; sums to 0 in each group; exactly 0 in a group of equal rewards and for a
        rollout without reward.

    Raises:
        ShapeError: The tensors are not [B] with the same B, a group has a single rollout, or
            std_eps is negative.

    Source: DeepSeekMath (Shao et al., 2024), sec. 4.1; `none`: Dr.GRPO (Liu et al., 2025);
        `leave_one_out`: RLOO (Ahmadian et al., 2024), eq. 9.
    """
    if not 0 <= std_eps < math.inf:
        raise ShapeError(f"std_eps is {std_eps}, expected a finite number >= 0")
    statistics = group_statistics(rewards, group_ids)
    rewards = at_least_float32(rewards.detach())
    scored = rewards.isfinite()
    centred = (rewards - statistics.means).where(scored, 0.0)
    if scale == "none":
        return centred
    if scale == "leave_one_out":  # of n rewards, reward - mean of the others, which sums to 0 too
        return centred * statistics.num_scored / (statistics.num_scored - 1).clamp(min=1)
    stds = statistics.stds if scale == "group_std" else _std(rewards, scored)
    # without std_eps, a group of equal rewards would be 0 / 0
    return torch.where(centred == 0, 0.0, centred / (stds + std_eps))


def mixed_groups(outcomes: Sequence[float], group_ids: Sequence[GroupId]) -> dict[GroupId, bool]:
    """Which groups can teach anything: those whose outcomes are not all equal.

    DAPO keeps these and samples further prompts until the batch is full.

    Args:
        outcomes: One accuracy or reward per rollout.
        group_ids: The prompt of each rollout.

    Returns:
        One entry per group in the order of its first rollout; False for a single rollout.

    Raises:
        ShapeError: Unequal lengths, or an outcome that is NaN.

    Source: DAPO (Yu et al., 2025), sec. 3.2.
    """
    if len(outcomes) != len(group_ids):
        raise ShapeError(f"{len(outcomes)} outcomes for {len(group_ids)} group_ids")
    seen: dict[GroupId, set[float]] = {}
    for number, (outcome, group_id) in enumerate(zip(outcomes, group_ids, strict=True)):
        if math.isnan(outcome):
            raise ShapeError(f"outcomes[{number}] is NaN; leave out rollouts without an outcome")
        seen.setdefault(group_id, set()).add(outcome)
    return {group_id: len(values) > 1 for group_id, values in seen.items()}


def _std(rewards: Tensor, scored: Tensor) -> Tensor:
    """Unbiased deviation of all known rewards, a scalar; 0 where fewer than two are known."""
    count = scored.sum()
    mean = rewards.where(scored, 0.0).sum() / count.clamp(min=1)
    squares = (rewards - mean).where(scored, 0.0).square().sum()
    return (squares / (count - 1).clamp(min=1)).sqrt()
