"""Losses over a ranked list of responses to one prompt, step by step: TPO over trees.

Left out: the released code of TPO, whose loss has the opposite sign and no rank weights.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.config import Config
from mmalign.errors import RecordError, ShapeError
from mmalign.objectives.configs import Positive
from mmalign.objectives.sums import at_least_float32, require_positive, require_same_shape

__all__ = [
    "ListLoss",
    "TPOTreeConfig",
    "aligned_step_count",
    "judge_values",
    "merge_late_steps",
    "rank_gap_weights",
    "ranks_in_order",
    "step_margins",
    "tpo_tree_loss",
]


class TPOTreeConfig(Config):
    """Settings of tpo_tree."""

    beta: Positive = 0.5
    """Inverse temperature. Source: TPO, its code."""
    weigh_ranks: bool = True
    """Whether pairs count by their gaps in value and rank. Source: TPO."""


class ListLoss(NamedTuple):
    """What an objective says about each list of a batch."""

    loss: Tensor
    """[B], to be minimised; the trainer averages it over the global batch of prompts."""
    rewards: Tensor
    """[B, N], detached."""
    margins: Tensor
    """[B, N, N], of the first response over the second, antisymmetric, detached."""


def tpo_tree_loss(
    policy_step_logps: Tensor,
    ref_step_logps: Tensor,
    values: Tensor,
    step_embeddings: Tensor | None = None,
    *,
    beta: float,
    weigh_ranks: bool = True,
) -> ListLoss:
    """Rank all responses to a prompt by their values, the pairs that matter most first.

        reward_i  = beta * sum over steps (policy_step_logps - ref_step_logps)
        margin_ij = `step_margins`: the reward gap, step by step weighted by similarity
        lambda_ij = `rank_gap_weights` of values and rewards, detached
        loss      = -sum over pairs with value_i > value_j of lambda_ij * log sigmoid(margin_ij)

    The sum is not divided by the number of pairs: it grows with the length of the list. A list
    whose values are all equal has the loss 0 and still counts in the trainer's mean.

    Args:
        policy_step_logps: [B, N, S], nats, summed over the tokens of each step, given the prompt
            and the steps before it; carries gradient.
        ref_step_logps: [B, N, S], the same under the frozen reference; carries no gradient.
        values: [B, N], `judge_values` in [0, 1]; equal ones make no pair.
        step_embeddings: [B, N, S, D], the policy's last hidden states averaged over each step's
            tokens; taken as constants (a reconstruction). None weighs all steps alike.
        beta: Inverse temperature, > 0.
        weigh_ranks: False is the paper's ablation with lambda 1.

    Returns:
        Loss per prompt [B], rewards without similarity weights [B, N] and margins [B, N, N].

    Raises:
        ShapeError: The tensors are not of these shapes, or beta is not positive.

    Source: TPO, tree (Liao et al., 2025), its lambda-weighted list loss with adaptive steps.
    """
    margins = step_margins(policy_step_logps, ref_step_logps, step_embeddings, beta=beta)
    rewards = beta * (policy_step_logps - ref_step_logps).detach().sum(-1)
    if values.shape != rewards.shape:
        raise ShapeError(
            f"expected values [B, N] = {list(rewards.shape)}, one for each response, "
            f"found {list(values.shape)}"
        )
    losses = -F.logsigmoid(margins)
    if weigh_ranks:
        losses = rank_gap_weights(values, rewards) * losses
    is_pair = values.unsqueeze(-1) > values.unsqueeze(-2)
    return ListLoss(
        loss=losses.where(is_pair, 0.0).sum((-2, -1)), rewards=rewards, margins=margins.detach()
    )


def step_margins(
    policy_step_logps: Tensor,
    ref_step_logps: Tensor,
    step_embeddings: Tensor | None = None,
    *,
    beta: float,
) -> Tensor:
    """TPO's adaptive margins between all responses of a list.

        rho       = policy_step_logps - ref_step_logps
        margin_ij = sum over steps k of (1 + cos(e_ik, e_jk)) * beta * (rho_ik - rho_jk)

    The bracket multiplies the difference, so a step that both share adds nothing.

    Args:
        policy_step_logps: [B, N, S], nats; carries gradient.
        ref_step_logps: [B, N, S], nats.
        step_embeddings: [B, N, S, D], detached here; a cosine with a zero vector is 0. None puts
            1 in place of 1 + cos: the margin is then the plain difference of the rewards.
        beta: Inverse temperature, > 0.

    Returns:
        [B, N, N], antisymmetric, with gradient.

    Raises:
        ShapeError: The tensors are not of these shapes, or beta is not positive.

    Source: TPO, tree (Liao et al., 2025), its adaptive step reward.
    """
    require_positive(beta=beta)
    require_same_shape(policy_step_logps=policy_step_logps, ref_step_logps=ref_step_logps)
    if policy_step_logps.ndim != 3:
        raise ShapeError(
            f"expected policy_step_logps [B, N, S], found {list(policy_step_logps.shape)}"
        )
    step_rewards = beta * (policy_step_logps - ref_step_logps)
    gaps = step_rewards.unsqueeze(2) - step_rewards.unsqueeze(1)
    if step_embeddings is None:
        return gaps.sum(-1)
    if step_embeddings.shape[:-1] != policy_step_logps.shape:
        raise ShapeError(
            f"expected step_embeddings [B, N, S, D] with [B, N, S] = "
            f"{list(policy_step_logps.shape)}, found {list(step_embeddings.shape)}"
        )
    directions = F.normalize(at_least_float32(step_embeddings.detach()), dim=-1)
    similarity = torch.einsum("bisd,bjsd->bijs", directions, directions)
    return ((1 + similarity) * gaps).sum(-1)


def rank_gap_weights(values: Tensor, rewards: Tensor) -> Tensor:
    """How much a pair matters: its gap in value times its gap in discounted rank.

        lambda_ij = |2^value_i - 2^value_j| * |1 / log(1 + rank_i) - 1 / log(1 + rank_j)|

    Args:
        values: [B, N], in [0, 1].
        rewards: [B, N], which rank the responses as the policy does now; detached.

    Returns:
        [B, N, N], symmetric, 0 on the diagonal and between equal values, detached. With natural
        logarithms; LambdaRank's base 2 is a constant factor.

    Raises:
        ShapeError: The two differ in shape.

    Source: TPO, tree (Liao et al., 2025), after LambdaRank (Burges et al., 2006).
    """
    require_same_shape(values=values, rewards=rewards)
    gains = torch.exp2(at_least_float32(values.detach()))
    discounts = 1 / torch.log(1 + ranks_in_order(rewards).to(gains.dtype))
    gain_gaps = (gains.unsqueeze(-1) - gains.unsqueeze(-2)).abs()
    return gain_gaps * (discounts.unsqueeze(-1) - discounts.unsqueeze(-2)).abs()


def ranks_in_order(rewards: Tensor) -> Tensor:
    """Rank of each entry in its row.

    Args:
        rewards: [..., N].

    Returns:
        [..., N], integers, 1 for the largest; of equal ones the smaller index comes first.
    """
    order = rewards.detach().argsort(dim=-1, descending=True, stable=True)
    return order.argsort(dim=-1) + 1


def judge_values(scores: Sequence[float]) -> list[float]:
    """A judge's scores as values in [0, 1]: (score + 100) / 200, a reconstruction.

    Args:
        scores: In [-100, 100], one for each response.

    Raises:
        RecordError: A score is NaN or out of range.

    Source: TPO, tree (Liao et al., 2025), which says only that values lie in [0, 1].
    """
    for place, score in enumerate(scores):
        if not -100 <= score <= 100 or math.isnan(score):
            raise RecordError(
                f"response {place} has the score {score}, expected one in [-100, 100]; "
                f"drop the response or judge it again"
            )
    return [(score + 100) / 200 for score in scores]


def aligned_step_count(step_counts: Sequence[int]) -> int:
    """Number of steps that all responses of a list share: the smallest one.

    Args:
        step_counts: Steps of each response, >= 1.

    Raises:
        RecordError: No response, or one without a step.

    Source: TPO's code; the paper takes equal step counts for granted.
    """
    if not step_counts or min(step_counts) < 1:
        raise RecordError(
            f"found the step counts {list(step_counts)}, expected at least one response and one "
            f"step in each; a response that cannot be split is one step"
        )
    return min(step_counts)


def merge_late_steps(step_ids: Tensor, *, num_steps: int) -> Tensor:
    """Puts every step after the first `num_steps` into the last of these, for `step_sums`.

    Args:
        step_ids: [B, T], integers from 0, -1 on tokens of no step.
        num_steps: `aligned_step_count` of the list.

    Source: TPO's code.
    """
    return step_ids.clamp(max=num_steps - 1)
