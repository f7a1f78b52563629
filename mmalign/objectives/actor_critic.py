"""What PPO with a critic adds: rewards of tokens, advantages by GAE, whitening, the value loss.

Tokens that a tool wrote, and padding, have mask 0 throughout: they carry no reward, are jumped
over in time, and enter neither moments nor losses. Values are those of the state before a token.

Left out: TRL's mask of values that is one token longer, and its penalty for a missing end token.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.aggregation import (
    BatchCounts,
    LossAggregation,
    aggregate_token_losses,
)
from mmalign.objectives.kl import KLEstimator, kl_estimate
from mmalign.objectives.sums import (
    require_one_per_pair,
    require_positive,
    require_same_shape,
    zero_outside,
)

__all__ = [
    "Advantages",
    "TokenMoments",
    "ValueLoss",
    "adaptive_kl_weight",
    "clipped_value_loss",
    "masked_gae",
    "merge_moments",
    "score_at_last_token",
    "token_moments",
    "token_rewards",
    "whiten",
]

WHITEN_EPS = 1e-8
"""Added to the variance inside the root, as in verl and TRL."""


class Advantages(NamedTuple):
    """What generalised advantage estimation says about each token."""

    advantages: Tensor
    """[B, T], detached, 0 outside the mask."""
    returns: Tensor
    """[B, T], detached, 0 outside the mask: advantages plus values, the critic's targets."""


class TokenMoments(NamedTuple):
    """Count, mean and spread of the tokens of a batch, or of a part of it."""

    num_tokens: Tensor
    """Scalar."""
    mean: Tensor
    """Scalar, 0 where there is no token."""
    squares: Tensor
    """Scalar: sum of squared deviations from the mean."""


class ValueLoss(NamedTuple):
    """What the value loss says about each rollout of a batch."""

    loss: Tensor
    """[B], each rollout's share, to be added up over the whole batch and minimised."""
    clipped: Tensor
    """[B, T], true where the clip holds the gradient back."""


def score_at_last_token(scores: Tensor, mask: Tensor) -> Tensor:
    """Give a rollout's score to the last token that the policy wrote.

    Args:
        scores: [B], one reward for each whole rollout.
        mask: [B, T], 1 on tokens that the policy wrote; a tool may have had the last word.

    Returns:
        [B, T], at least float32, detached; 0 but at one token per rollout. The score of a
        rollout without any token is lost: drop such rollouts before.

    Raises:
        ShapeError: There is not one score per rollout.
    """
    last = mask.bool() & (mask.bool().flip(-1).cumsum(-1).flip(-1) == 1)
    require_one_per_pair(scores=scores, last_tokens=last.any(-1))
    return zero_outside(scores.detach().unsqueeze(-1).expand(mask.shape), last)


def token_rewards(
    scores: Tensor,
    old_token_logps: Tensor,
    ref_token_logps: Tensor,
    mask: Tensor,
    *,
    kl_weight: float,
    kl_estimator: KLEstimator = "k1",
) -> Tensor:
    """A price on leaving the reference at every token, and the score at the last.

        reward = -kl_weight * kl + (score at the rollout's last token)

    With the price here, a KL in the loss would count twice.

    Args:
        scores: [B], one reward for each whole rollout.
        old_token_logps: [B, T], nats, of the policy that sampled.
        ref_token_logps: [B, T], nats, from the frozen reference.
        mask: [B, T], 1 on tokens that the policy wrote.
        kl_weight: beta, >= 0.
        kl_estimator: k1 makes the row's sum the log-ratio of the whole rollout.

    Returns:
        [B, T], at least float32, detached, 0 outside the mask.

    Raises:
        ShapeError: Different shapes.

    Source: Ziegler et al. (2019), eq. 2; per token as in verl.
    """
    require_same_shape(old_token_logps=old_token_logps, ref_token_logps=ref_token_logps, mask=mask)
    kl = kl_estimate(
        zero_outside(old_token_logps.detach(), mask),
        zero_outside(ref_token_logps, mask),
        estimator=kl_estimator,
    )
    return score_at_last_token(scores, mask) - kl_weight * kl


def masked_gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float
) -> Advantages:
    """Generalised advantage estimation that jumps over the tokens of others.

        delta_t = reward_t + gamma * value_next - value_t
        A_t     = delta_t + gamma * gae_lambda * A_next
        return  = A_t + value_t

    "Next" is the rollout's next token inside the mask, with value and A of 0 after the last; so
    the result is that of the rollout with all other tokens deleted.

    Args:
        rewards: [B, T], as from `token_rewards`.
        values: [B, T], the critic's value of the state before each token, at sampling time.
        mask: [B, T], 1 on tokens that the policy wrote.
        gamma: Discount per token, in [0, 1].
        gae_lambda: Trace decay, in [0, 1]; 1 is the return minus the value, 0 the one-step error.

    Returns:
        Advantages, not whitened, and returns, [B, T] each, detached.

    Raises:
        ShapeError: Different shapes, or a setting outside [0, 1].

    Source: GAE (Schulman et al., 2015), eq. 16; the jump from verl.
    """
    require_same_shape(rewards=rewards, values=values, mask=mask)
    for name, number in (("gamma", gamma), ("gae_lambda", gae_lambda)):
        if not 0 <= number <= 1:
            raise ShapeError(f"{name} is {number}, expected a number in [0, 1]")
    inside = mask.bool()
    rewards = zero_outside(rewards.detach(), mask)
    values = zero_outside(values.detach(), mask)
    next_value = next_advantage = torch.zeros_like(values[:, 0])
    columns = []
    for t in reversed(range(values.shape[1])):
        here = inside[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * gae_lambda * next_advantage
        next_value = torch.where(here, values[:, t], next_value)
        next_advantage = torch.where(here, advantage, next_advantage)
        columns.append(next_advantage)
    advantages = zero_outside(torch.stack(columns[::-1], dim=1), mask)
    return Advantages(advantages=advantages, returns=advantages + values)


def token_moments(values: Tensor, mask: Tensor) -> TokenMoments:
    """Count, mean and spread of one part of a batch.

    Args:
        values: [B, T].
        mask: [B, T], 1 on tokens that count.

    Returns:
        Three scalars, detached. A trainer gathers them from all parts for `merge_moments`.

    Raises:
        ShapeError: The two differ in shape.
    """
    require_same_shape(values=values, mask=mask)
    values = zero_outside(values.detach(), mask)
    num_tokens = mask.bool().sum()
    mean = values.sum() / num_tokens.clamp(min=1)
    return TokenMoments(num_tokens, mean, zero_outside(values - mean, mask).square().sum())


def merge_moments(parts: Sequence[TokenMoments]) -> TokenMoments:
    """The moments of all parts together, equal to those of the undivided batch.

    Raises:
        ShapeError: There is no part.

    Source: Chan, Golub & LeVeque (1983): no digits are lost where the mean is far from 0.
    """
    if not parts:
        raise ShapeError("there are no moments to merge; expected those of at least one part")
    counts = torch.stack([part.num_tokens for part in parts])
    means = torch.stack([part.mean for part in parts])
    squares = torch.stack([part.squares for part in parts])
    num_tokens = counts.sum()
    mean = (counts * means).sum() / num_tokens.clamp(min=1)
    between = (counts * (means - mean).square()).sum()
    return TokenMoments(num_tokens, mean, squares.sum() + between)


def whiten(
    values: Tensor, mask: Tensor, moments: TokenMoments, *, shift_mean: bool = True
) -> Tensor:
    """Values with mean 0 and unbiased variance 1 over the tokens of the whole batch.

        (value - mean) / sqrt(variance + 1e-8)

    Waits for the device, once a batch: not for use inside a loss.

    Args:
        values: [B, T], as the advantages of `masked_gae`.
        mask: [B, T], 1 on tokens that count.
        moments: Of the whole batch: `token_moments`, merged where it has several parts.
        shift_mean: False gives the mean back after scaling, as TRL does with rewards.

    Returns:
        [B, T], detached, 0 outside the mask.

    Raises:
        ShapeError: Different shapes, or fewer than two tokens, which have no variance.

    Source: verl and TRL.
    """
    require_same_shape(values=values, mask=mask)
    num_tokens = int(moments.num_tokens)
    if num_tokens < 2:
        raise ShapeError(
            f"the batch has {num_tokens} tokens that count, and whitening needs two or more; "
            f"the batch is too small or its mask is empty"
        )
    variance = moments.squares / (num_tokens - 1)
    whitened = (values.detach() - moments.mean) * torch.rsqrt(variance + WHITEN_EPS)
    return zero_outside(whitened if shift_mean else whitened + moments.mean, mask)


def clipped_value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    counts: BatchCounts,
    *,
    clip_value: float,
    loss_aggregation: LossAggregation = "token-mean",
    max_completion_tokens: int | None = None,
) -> ValueLoss:
    """Fit the critic to the returns without leaving its old values too far in one batch.

        near = clip(value, old_value - clip_value, old_value + clip_value)
        loss = max((value - return)^2, (near - return)^2) / 2

    Args:
        values: [B, T], the critic now; carries gradient.
        old_values: [B, T], the critic at sampling time; carries no gradient.
        returns: [B, T], of `masked_gae`, from advantages that are not whitened.
        mask: [B, T], 1 on tokens that the policy wrote.
        counts: Of the whole batch.
        clip_value: How far a value may move, > 0; 0.5 in verl, 0.2 in TRL.
        loss_aggregation: How tokens are averaged.
        max_completion_tokens: Constant of `seq-mean-token-sum-norm`.

    Returns:
        Shares of the loss [B], without the weight that some add, and clipped tokens [B, T].
        At a tie of both branches the gradient flows.

    Raises:
        ShapeError: Different shapes, or clip_value is not positive.

    Source: PPO's code (Dhariwal et al., 2017); token by token as in verl and TRL.
    """
    require_positive(clip_value=clip_value)
    require_same_shape(values=values, old_values=old_values, returns=returns, mask=mask)
    values, old_values, returns = (
        zero_outside(tensor, mask) for tensor in (values, old_values.detach(), returns.detach())
    )
    near = values.clamp(old_values - clip_value, old_values + clip_value)
    free_errors, near_errors = (values - returns).square(), (near - returns).square()
    clipped = near_errors > free_errors
    loss = aggregate_token_losses(
        torch.where(clipped, near_errors, free_errors) / 2,
        mask,
        counts,
        loss_aggregation=loss_aggregation,
        max_completion_tokens=max_completion_tokens,
    )
    return ValueLoss(loss=loss, clipped=clipped)


def adaptive_kl_weight(
    kl_weight: float, kl: float, *, target: float, horizon: int, num_steps: int
) -> float:
    """The KL's weight for the next batch, raised where the policy strays too far.

        weight * (1 + clip(kl / target - 1, -0.2, 0.2) * num_steps / horizon)

    Args:
        kl_weight: The weight of this batch.
        kl: Mean KL of this batch, nats.
        target: The KL sought, nats, > 0; 0.1 in verl.
        horizon: Steps in which the weight may change by a fifth, > 0; 10000 in verl.
        num_steps: Steps of this batch; rollouts, in verl.

    Raises:
        ShapeError: kl is NaN, or a setting is not positive.

    Source: Ziegler et al. (2019), sec. 2.2.
    """
    require_positive(target=target, horizon=horizon)
    if kl != kl:
        raise ShapeError("kl is NaN, expected the batch's mean in nats")
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_weight * (1 + error * num_steps / horizon)
