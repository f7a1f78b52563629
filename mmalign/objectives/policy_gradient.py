"""Clipped policy losses over sampled rollouts: PPO, GRPO, Dr.GRPO, DAPO, GSPO.

A mask may have holes: tokens that a tool wrote count nowhere. What stands outside the mask does
not matter, even if it is NaN. Every loss is given as [B], one share per rollout, to be added up
over the whole batch (see `aggregation`).

Left out: the entropy bonus, verl's cut of k3 at 10, TRL's cap `delta` on the ratio (for an
advantage below 0 the dual clip is the same), weights for a sampler that differs from the trainer.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.aggregation import (
    BatchCounts,
    LossAggregation,
    aggregate_token_losses,
    row_means,
)
from mmalign.objectives.kl import MAX_LOG_RATIO, KLEstimator, kl_estimate
from mmalign.objectives.sums import (
    require_one_per_pair,
    require_positive,
    require_same_shape,
    zero_outside,
)

__all__ = [
    "PolicyLoss",
    "TokenLosses",
    "clipped_token_losses",
    "dapo_loss",
    "dr_grpo_loss",
    "grpo_loss",
    "gspo_loss",
    "ppo_policy_loss",
]

MAX_MEAN_LOG_RATIO = 10.0
"""Nats per token at which verl cuts GSPO's ratio."""


class TokenLosses(NamedTuple):
    """The clipped loss of each token, not yet reduced."""

    losses: Tensor
    """[B, T], to be minimised, 0 outside the mask."""
    ratios: Tensor
    """[B, T], policy over old policy, detached, 1 outside the mask."""
    clipped: Tensor
    """[B, T], true where the clipped branch is strictly larger, so that no gradient flows."""


class PolicyLoss(NamedTuple):
    """What a policy loss says about each rollout of a batch."""

    loss: Tensor
    """[B], each rollout's share, to be added up over the whole batch and minimised."""
    ratios: Tensor
    """[B, T], or [B] where a rollout has one ratio; detached."""
    clipped: Tensor
    """Like `ratios`, true where the clip holds the gradient back."""
    metrics: Mapping[str, Tensor] = MappingProxyType({})
    """Further numbers to log, [B] each, detached: `kl`, without its weight."""


def clipped_token_losses(
    policy_token_logps: Tensor,
    old_token_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> TokenLosses:
    """PPO's surrogate at each token: the advantage is earned within a trust region only.

        ratio = exp(policy_token_logps - old_token_logps)
        loss  = max(-A * ratio, -A * clip(ratio, 1 - clip_low, 1 + clip_high))
        loss  = min(loss, -A * dual_clip)    where A < 0

    Args:
        policy_token_logps: [B, T], nats; carries gradient.
        old_token_logps: [B, T], nats, of the policy that sampled, by the trainer's own forward
            pass; None with exactly one step per batch, where the ratio is 1.
        advantages: [B, T], taken without gradient.
        mask: [B, T], 1 on tokens that the policy wrote.
        clip_low: How far the ratio may earn below 1, > 0.
        clip_high: How far above 1, > 0.
        dual_clip: c > 1 bounds the loss of a token with A < 0 by -A * c; None for no bound.

    Returns:
        Losses, ratios and where the clip binds, [B, T] each. At a tie of both branches the
        gradient flows. The log-ratio is cut at +-20.

    Raises:
        ShapeError: Different shapes, or a setting out of range.

    Source: PPO (Schulman et al., 2017), eq. 7; apart bounds from DAPO (Yu et al., 2025), eq. 8;
        dual clip (Ye et al., 2020), eq. 5.
    """
    require_same_shape(advantages=advantages, mask=mask)
    log_ratios = _log_ratios(policy_token_logps, old_token_logps, mask)
    return _clip(
        log_ratios.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp(),
        zero_outside(advantages.detach(), mask),
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )


def ppo_policy_loss(
    policy_token_logps: Tensor,
    old_token_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    counts: BatchCounts,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    loss_aggregation: LossAggregation = "token-mean",
    max_completion_tokens: int | None = None,
) -> PolicyLoss:
    """PPO's policy loss with an advantage for each token.

    Args:
        policy_token_logps: [B, T], nats; carries gradient.
        old_token_logps: [B, T], nats, of the policy that sampled; None stands for the present one.
        advantages: [B, T], as from `masked_gae`, whitened.
        mask: [B, T], 1 on tokens that the policy wrote.
        counts: Of the whole batch.
        clip_low: epsilon of the paper, below 1.
        clip_high: epsilon of the paper, above 1.
        dual_clip: Bound for A < 0; 3 in verl, None in the paper.
        loss_aggregation: How tokens are averaged.
        max_completion_tokens: Constant of `seq-mean-token-sum-norm`.

    Returns:
        Shares of the loss [B], ratios and clipped tokens [B, T].

    Raises:
        ShapeError: Different shapes, or a setting out of range.

    Source: PPO (Schulman et al., 2017), eq. 7.
    """
    tokens = clipped_token_losses(
        policy_token_logps,
        old_token_logps,
        advantages,
        mask,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )
    loss = aggregate_token_losses(
        tokens.losses,
        mask,
        counts,
        loss_aggregation=loss_aggregation,
        max_completion_tokens=max_completion_tokens,
    )
    return PolicyLoss(loss=loss, ratios=tokens.ratios, clipped=tokens.clipped)


def grpo_loss(
    policy_token_logps: Tensor,
    old_token_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    counts: BatchCounts,
    ref_token_logps: Tensor | None = None,
    *,
    kl_weight: float,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    kl_estimator: KLEstimator = "k3",
    loss_aggregation: LossAggregation = "seq-mean-token-mean",
    max_completion_tokens: int | None = None,
) -> PolicyLoss:
    """PPO without a critic: each token of a rollout has the rollout's advantage in its group.

        loss = clipped token loss + kl_weight * kl    at each token, then aggregated

    Args:
        policy_token_logps: [B, T], nats; carries gradient.
        old_token_logps: [B, T], nats, of the policy that sampled; None stands for the present
            one, as where each batch is used for one step.
        advantages: [B], of `group_advantages`; taken without gradient.
        mask: [B, T], 1 on tokens that the policy wrote.
        counts: Of the whole batch.
        ref_token_logps: [B, T], nats, from the frozen reference; needed where kl_weight > 0.
        kl_weight: beta, >= 0; 0.04 in the paper.
        clip_low: How far the ratio may earn below 1.
        clip_high: How far above 1.
        dual_clip: Bound for A < 0; 3 in verl, None in the paper.
        kl_estimator: The paper's is k3.
        loss_aggregation: The paper's gives long and short rollouts the same weight.
        max_completion_tokens: Constant of `seq-mean-token-sum-norm`.

    Returns:
        Shares of the loss [B], ratios and clipped tokens [B, T]; metric `kl`, the mean over the
        rollout's tokens, where a reference is given.

    Raises:
        ShapeError: Different shapes, a setting out of range, or a KL without a reference.

    Source: GRPO in DeepSeekMath (Shao et al., 2024), eq. 3.
    """
    if not 0 <= kl_weight < float("inf"):
        raise ShapeError(f"kl_weight is {kl_weight}, expected a finite number >= 0")
    if kl_weight > 0 and ref_token_logps is None:
        raise ShapeError(f"kl_weight is {kl_weight}, which needs ref_token_logps; give them or 0")
    tokens = clipped_token_losses(
        policy_token_logps,
        old_token_logps,
        _for_each_token(advantages, mask),
        mask,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )
    losses = tokens.losses
    metrics: dict[str, Tensor] = {}
    if ref_token_logps is not None:
        require_same_shape(policy_token_logps=policy_token_logps, ref_token_logps=ref_token_logps)
        kl = kl_estimate(
            zero_outside(policy_token_logps, mask),
            zero_outside(ref_token_logps, mask),
            estimator=kl_estimator,
        )
        losses = losses + kl_weight * kl
        metrics["kl"] = row_means(kl.detach(), mask)
    loss = aggregate_token_losses(
        losses,
        mask,
        counts,
        loss_aggregation=loss_aggregation,
        max_completion_tokens=max_completion_tokens,
    )
    return PolicyLoss(loss, tokens.ratios, tokens.clipped, metrics)


def dr_grpo_loss(
    policy_token_logps: Tensor,
    old_token_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    counts: BatchCounts,
    *,
    max_completion_tokens: int,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> PolicyLoss:
    """`grpo_loss` without its biases: one constant instead of the length, and no KL.

    The other half of the method is the advantage: `group_advantages` with scale `none`.

    Source: Dr.GRPO (Liu et al., 2025), sec. 3.2.
    """
    return grpo_loss(
        policy_token_logps,
        old_token_logps,
        advantages,
        mask,
        counts,
        kl_weight=0.0,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        loss_aggregation="seq-mean-token-sum-norm",
        max_completion_tokens=max_completion_tokens,
    )


def dapo_loss(
    policy_token_logps: Tensor,
    old_token_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    counts: BatchCounts,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = None,
) -> PolicyLoss:
    """`grpo_loss` with a higher upper bound, each token of the batch alike, and no KL.

    The rest of the method is `mixed_groups` and the reward `overlong_penalty`.

    Source: DAPO (Yu et al., 2025), eq. 8.
    """
    return grpo_loss(
        policy_token_logps,
        old_token_logps,
        advantages,
        mask,
        counts,
        kl_weight=0.0,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        loss_aggregation="token-mean",
    )


def gspo_loss(
    policy_token_logps: Tensor,
    old_token_logps: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    counts: BatchCounts,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> PolicyLoss:
    """Clip whole rollouts, by the geometric mean of their tokens' ratios.

        s    = exp(mean over the rollout's tokens (policy_token_logps - old_token_logps))
        loss = max(-A * s, -A * clip(s, 1 - clip_low, 1 + clip_high))    mean over rollouts

    Args:
        policy_token_logps: [B, T], nats; carries gradient.
        old_token_logps: [B, T], nats, of the policy that sampled; None stands for the present one.
        advantages: [B], of `group_advantages`; taken without gradient.
        mask: [B, T], 1 on tokens that the policy wrote.
        counts: Of the whole batch.
        clip_low: How far s may earn below 1, > 0; small, as s is a mean.
        clip_high: How far above 1, > 0.

    Returns:
        Shares of the loss, ratios s and clipped rollouts, [B] each. log s is cut at 10.

    Raises:
        ShapeError: Different shapes, or a setting out of range.

    Source: GSPO (Zheng et al., 2025), eq. 5 to 7.
    """
    log_ratios = row_means(_log_ratios(policy_token_logps, old_token_logps, mask), mask)
    require_one_per_pair(log_ratios=log_ratios, advantages=advantages)
    rollouts = _clip(
        log_ratios.clamp(max=MAX_MEAN_LOG_RATIO).exp(),
        zero_outside(advantages.detach(), mask.bool().any(-1)),
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=None,
    )
    loss = rollouts.losses / counts.num_rollouts.clamp(min=1)
    return PolicyLoss(loss=loss, ratios=rollouts.ratios, clipped=rollouts.clipped)


def _log_ratios(policy_token_logps: Tensor, old_token_logps: Tensor | None, mask: Tensor) -> Tensor:
    if old_token_logps is None:
        old_token_logps = policy_token_logps.detach()
    require_same_shape(
        policy_token_logps=policy_token_logps, old_token_logps=old_token_logps, mask=mask
    )
    return zero_outside(policy_token_logps, mask) - zero_outside(old_token_logps.detach(), mask)


def _for_each_token(advantages: Tensor, mask: Tensor) -> Tensor:
    """[B] as [B, T]."""
    if advantages.ndim != 1 or len(advantages) != len(mask):
        raise ShapeError(
            f"expected one advantage per rollout, advantages [{len(mask)}], "
            f"found {list(advantages.shape)}"
        )
    return advantages.unsqueeze(-1).expand(mask.shape)


def _clip(
    ratios: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
) -> TokenLosses:
    require_positive(clip_low=clip_low, clip_high=clip_high)
    unclipped = -advantages * ratios
    bounded = -advantages * ratios.clamp(1 - clip_low, 1 + clip_high)
    clipped = bounded > unclipped
    losses = torch.where(clipped, bounded, unclipped)
    if dual_clip is not None:
        if not 1 < dual_clip < float("inf"):
            raise ShapeError(f"dual_clip is {dual_clip}, expected a finite number > 1, or None")
        bound = -advantages * dual_clip
        losses = torch.where((advantages < 0) & (losses > bound), bound, losses)
    return TokenLosses(losses=losses, ratios=ratios.detach(), clipped=clipped)
