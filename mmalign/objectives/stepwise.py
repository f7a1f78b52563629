"""Losses, weights and masks that tell the steps of a response apart."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.sums import (
    at_least_float32,
    phrase_sums,
    require_one_per_pair,
    require_same_shape,
)
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "PrefixLabels",
    "after_shared_steps",
    "check_step_rewards",
    "full_step_dpo_loss",
    "group_losses",
    "mixed_losses",
    "prefix_labels",
    "process_reward_loss",
    "step_sums",
    "step_weights",
]


def full_step_dpo_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_step_ids: Tensor,
    rejected_step_ids: Tensor,
    chosen_step_rewards: Tensor,
    rejected_step_rewards: Tensor,
    *,
    beta: float,
    gamma: float,
    rescale: bool = True,
    reading: Literal["margin", "gradient"] = "margin",
) -> PreferenceLoss:
    """DPO that learns most from the good steps of the chosen response and the bad of the rejected.

        rho  = sum over the tokens of a step (policy_token_logps - ref_token_logps)
        m    = sum over steps of weight * rho, chosen minus rejected
        h    = sum over steps of rho, chosen minus rejected
        loss = -log sigmoid(beta * m)                     reading "margin"
        loss = -beta * stop(sigmoid(-beta * h)) * m       reading "gradient"

    Args:
        policy_chosen_token_logps: [B, T], nats; carries gradient.
        policy_rejected_token_logps: [B, T'], the same for the rejected response.
        ref_chosen_token_logps: [B, T], nats, from the frozen reference; carries no gradient.
        ref_rejected_token_logps: [B, T'].
        chosen_step_ids: [B, T], integers: 0, 1, ... on the tokens of a step, what closes the step
            included, and -1 on prompt and padding. They are the mask.
        rejected_step_ids: [B, T'].
        chosen_step_rewards: [B, S], in [0, 1], S above the largest id; what stands at steps
            that a response lacks does not matter. Detached.
        rejected_step_rewards: [B, S'].
        beta: Inverse temperature, > 0; ten steps without `rescale` need a beta ten times larger.
        gamma: Sharpness of the weights, >= 0; 0 weighs all steps alike.
        rescale: Weights of mean 1 over a response's steps rather than of sum 1, so that gamma 0
            is DPO. A reconstruction.
        reading: `margin` puts the weights into DPO's margin. `gradient` keeps DPO's coefficient
            and weighs the gradients of the steps alone: the gradient of this surrogate is meant,
            not its value. Both are reconstructions, the first from an independent implementation.

    Returns:
        Loss per pair [B], under `margin` log 2 where policy equals reference; rewards beta times
        the weighted sums; metrics `weighted_margin` (m) and `full_margin` (h), in nats.

    Raises:
        ShapeError: Tensors of one side differ in shape, the sides in B, or beta is not positive.

    Source: Full-Step-DPO (Xu et al., 2025), sec. 4.
    """
    chosen = _step_margins(
        policy_chosen_token_logps,
        ref_chosen_token_logps,
        chosen_step_ids,
        step_weights(chosen_step_rewards, chosen_step_ids, gamma=gamma, rescale=rescale),
        side="chosen",
    )
    rejected = _step_margins(
        policy_rejected_token_logps,
        ref_rejected_token_logps,
        rejected_step_ids,
        step_weights(rejected_step_rewards, rejected_step_ids, gamma=-gamma, rescale=rescale),
        side="rejected",
    )
    zeros = torch.zeros_like(chosen.weighted)  # the reference is in the log-ratios already
    ranked = dpo_loss(chosen.weighted, rejected.weighted, zeros, zeros, beta=beta)
    margin = chosen.weighted - rejected.weighted
    full_margin = (chosen.full - rejected.full).detach()
    surrogate = -beta * torch.sigmoid(-beta * full_margin) * margin
    return ranked._replace(
        loss=ranked.loss if reading == "margin" else surrogate,
        metrics={"weighted_margin": margin.detach(), "full_margin": full_margin},
    )


def step_weights(
    step_rewards: Tensor, step_ids: Tensor, *, gamma: float, rescale: bool = True
) -> Tensor:
    """How much each step of a response counts.

        weight = exp(gamma * reward) / (sum of the same over the response's steps)

    Args:
        step_rewards: [B, S]; columns of steps that a response lacks do not matter. Detached.
        step_ids: [B, T], integers, -1 outside the response.
        gamma: Above 0 it favours steps of high reward, as the chosen side wants, below 0 steps of
            low reward, as the rejected side wants.
        rescale: Multiply by the number of the response's steps. A reconstruction.

    Returns:
        [B, S], without gradient; 0 at steps without a token, all 0 for a row without a step.

    Raises:
        ShapeError: Rewards and ids are not two-dimensional with the same B.

    Source: Full-Step-DPO (Xu et al., 2025), sec. 4.
    """
    if step_rewards.ndim != 2 or step_rewards.shape[0] != step_ids.shape[0]:
        raise ShapeError(
            f"expected step_rewards [B, S] and step_ids [B, T] with the same B, found "
            f"{list(step_rewards.shape)} and {list(step_ids.shape)}"
        )
    rewards = at_least_float32(step_rewards.detach())
    ones = torch.ones_like(step_ids, dtype=rewards.dtype)
    present = step_sums(ones, step_ids, num_steps=step_rewards.shape[1]) > 0
    weights = (gamma * rewards).masked_fill(~present, -math.inf).softmax(-1)
    weights = weights.where(present, 0.0)  # a row of -inf has a softmax of NaN
    return weights * present.sum(-1, keepdim=True) if rescale else weights


def step_sums(values: Tensor, step_ids: Tensor, *, num_steps: int) -> Tensor:
    """Sum over the tokens of each step.

    Args:
        values: [B, T]; outside the steps they do not matter, even if they are NaN.
        step_ids: [B, T], integers from 0, -1 on tokens of no step.
        num_steps: Above the largest id that occurs.

    Returns:
        [B, num_steps], 0 for a step that the row lacks.

    Raises:
        ShapeError: The two differ in shape.
    """
    require_same_shape(values=values, step_ids=step_ids)
    return phrase_sums(values, step_ids + 1, num_phrases=num_steps)


def check_step_rewards(
    step_rewards: Tensor, step_ids: Tensor, record_ids: Sequence[str], *, side: str
) -> None:
    """Stop before a missing or broken reward of a step gets into the weights.

    It waits for the device: not for use inside a loss.

    Args:
        step_rewards: [B, S].
        step_ids: [B, T], integers, -1 outside the response.
        record_ids: The batch's pairs, for the message.
        side: `chosen` or `rejected`, for the message.

    Raises:
        ShapeError: A step has no reward, or one that is not in [0, 1].
    """
    rewards, ids = step_rewards.tolist(), step_ids.tolist()
    for record_id, row, steps in zip(record_ids, rewards, ids, strict=True):
        for step in sorted(set(steps) - {-1}):
            where = f"pair {record_id!r}: step {step} of the {side} response"
            if not 0 <= step < len(row):
                raise ShapeError(f"{where} has no reward; {len(row)} are given")
            if not 0 <= row[step] <= 1:
                raise ShapeError(f"{where} has the reward {row[step]}, expected one in [0, 1]")


def after_shared_steps(
    step_ids: Tensor, last_shared_step: Tensor, tool_output: Tensor | None = None
) -> Tensor:
    """The tokens of a pair's own steps: those after the prefix that both sides share.

    DPO on sums over this mask is step-controlled DPO. The shared steps would cancel in its
    margin; masked, they also give no gradient.

    Args:
        step_ids: [B, T], integers from 0, -1 on prompt and padding.
        last_shared_step: [B], integers, the last step that both sides share; -1 for none, which
            is DPO on whole responses.
        tool_output: [B, T], not 0 on tokens that a tool wrote, to be left out. Leaving them out
            is a reconstruction: the published runs trained on them, as None does.

    Returns:
        [B, T], true on tokens that count.

    Raises:
        ShapeError: The tensors are not [B, T] and [B] with the same B.

    Source: SCDPO (Lu et al., 2024).
    """
    if last_shared_step.shape != step_ids.shape[:1]:
        raise ShapeError(
            f"expected step_ids [B, T] and last_shared_step [B] with the same B, found "
            f"{list(step_ids.shape)} and {list(last_shared_step.shape)}"
        )
    own = (step_ids >= 0) & (step_ids > last_shared_step.unsqueeze(-1))
    if tool_output is None:
        return own
    require_same_shape(step_ids=step_ids, tool_output=tool_output)
    return own & ~tool_output.bool()


def mixed_losses(
    losses: Tensor, is_naive: Tensor, *, mix: Literal["pooled", "sum"] = "pooled"
) -> Tensor:
    """The losses of whole-response and step-controlled pairs, as they are to be averaged.

    Args:
        losses: [B], of `dpo_loss`; carries gradient.
        is_naive: [B], not 0 for a pair of whole responses, 0 for one with a shared prefix.
        mix: `pooled` as in the released code, one mean over all pairs, or `sum` as in the paper,
            the mean over either kind added. `sum` couples the batch: its counts are over B.

    Returns:
        [B], whose mean is the loss.

    Raises:
        ShapeError: The two are not [B] with the same B.

    Source: SCDPO (Lu et al., 2024).
    """
    if mix == "pooled":
        require_one_per_pair(losses=losses, is_naive=is_naive)
        return losses
    return group_losses(losses, is_naive.bool()) + group_losses(losses, ~is_naive.bool())


def group_losses(losses: Tensor, in_group: Tensor) -> Tensor:
    """Losses whose mean over the batch is their mean over a part of it.

    Args:
        losses: [B]; carries gradient.
        in_group: [B], not 0 on the items of the part.

    Returns:
        [B], B / (items of the part) times the loss inside the part, 0 elsewhere; 0 everywhere
        for a part without items.
    """
    require_one_per_pair(losses=losses, in_group=in_group)
    inside = in_group.bool()
    return losses.where(inside, 0.0) * len(losses) / inside.sum().clamp(min=1)


class PrefixLabels(NamedTuple):
    """How good the beginnings of solutions are, told by how their rollouts end."""

    soft: Tensor
    """[...], the share of rollouts that end right, in [0, 1]."""
    hard: Tensor
    """[...], integers, 1 where any rollout ends right."""


def prefix_labels(outcomes: Tensor) -> PrefixLabels:
    """Labels for a process reward model, from the policy's own rollouts.

    Args:
        outcomes: [..., R], 1 where the rollout from that prefix ends with the right answer.

    Returns:
        Both kinds of label [...], without gradient.

    Source: Full-Step-DPO (Xu et al., 2025); `hard` as in Math-Shepherd.
    """
    outcomes = at_least_float32(outcomes.detach())
    return PrefixLabels(soft=outcomes.mean(-1), hard=(outcomes > 0).any(-1).long())


def process_reward_loss(
    logits: Tensor, labels: Tensor, *, kind: Literal["bce", "mse"] = "bce"
) -> Tensor:
    """Fit a process reward model to the labels of prefixes.

        p    = sigmoid(logits)
        loss = -(label * log p + (1 - label) * log(1 - p))    kind "bce"
        loss = (p - label)^2                                  kind "mse"

    Args:
        logits: [...], the scalar head at the last token of each prefix; carries gradient.
        labels: [...], in [0, 1], soft or hard ones of `prefix_labels`. Detached.
        kind: Cross-entropy or squared error. A reconstruction, as is the default of the two.

    Returns:
        Loss per prefix [...], to be minimised.

    Raises:
        ShapeError: The two differ in shape.

    Source: Full-Step-DPO (Xu et al., 2025).
    """
    require_same_shape(logits=logits, labels=labels)
    labels = labels.detach().to(logits.dtype)
    if kind == "mse":
        return (torch.sigmoid(logits) - labels).square()
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


class _StepMargins(NamedTuple):
    """Log-ratios of one side, summed over its steps; [B] each, with gradient."""

    weighted: Tensor
    full: Tensor


def _step_margins(
    policy_token_logps: Tensor,
    ref_token_logps: Tensor,
    step_ids: Tensor,
    weights: Tensor,
    *,
    side: str,
) -> _StepMargins:
    require_same_shape(**{
        f"policy_{side}_token_logps": policy_token_logps,
        f"ref_{side}_token_logps": ref_token_logps,
        f"{side}_step_ids": step_ids,
    })  # fmt: skip
    steps = step_sums(policy_token_logps - ref_token_logps, step_ids, num_steps=weights.shape[1])
    return _StepMargins(weighted=(weights * steps).sum(-1), full=steps.sum(-1))
