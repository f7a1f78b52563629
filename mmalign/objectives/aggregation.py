"""From losses of tokens to the loss of a batch that is computed in parts.

Every rollout gets its share of the batch's loss, [B]; the shares of all parts and processes are
added up. What they are divided by is counted over the whole batch beforehand (`BatchCounts`),
else the tokens of a part with few of them weigh more. A trainer whose processes average their
gradients multiplies by their number.
"""

from typing import Literal, NamedTuple

from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import masked_sum, require_positive, require_same_shape

__all__ = [
    "BatchCounts",
    "LossAggregation",
    "aggregate_token_losses",
    "batch_counts",
    "generated_mask",
    "row_means",
]

LossAggregation = Literal[
    "seq-mean-token-mean", "token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"
]
"""How token losses become a number, by verl's names.

- `seq-mean-token-mean`: mean over each rollout's tokens, then over rollouts; GRPO as published.
- `token-mean`: mean over all tokens of the batch; PPO, DAPO.
- `seq-mean-token-sum`: sum over each rollout's tokens, then mean over rollouts.
- `seq-mean-token-sum-norm`: the same over a constant, the longest allowed completion; Dr.GRPO.
"""


class BatchCounts(NamedTuple):
    """What a loss is divided by, counted over the whole batch."""

    num_rollouts: Tensor
    """Scalar: rollouts with at least one token that counts; the others enter no mean."""
    num_tokens: Tensor
    """Scalar: tokens that count."""


def generated_mask(response_mask: Tensor, observation_mask: Tensor) -> Tensor:
    """The tokens that the policy wrote itself.

    Args:
        response_mask: [B, T], 1 on all tokens after the prompt.
        observation_mask: [B, T], 1 on those that tools or the environment wrote.

    Returns:
        [B, T], of the type of `response_mask`, 1 on response tokens that are no observation.

    Raises:
        ShapeError: The two differ in shape.
    """
    require_same_shape(response_mask=response_mask, observation_mask=observation_mask)
    return (response_mask.bool() & ~observation_mask.bool()).to(response_mask.dtype)


def batch_counts(mask: Tensor) -> BatchCounts:
    """The counts of one part of a batch; a trainer adds those of all parts and processes."""
    inside = mask.bool()
    return BatchCounts(num_rollouts=inside.any(-1).sum(), num_tokens=inside.sum())


def aggregate_token_losses(
    token_losses: Tensor,
    mask: Tensor,
    counts: BatchCounts,
    *,
    loss_aggregation: LossAggregation,
    max_completion_tokens: int | None = None,
) -> Tensor:
    """Each rollout's share of the batch's loss, or of any other mean over its tokens.

    Args:
        token_losses: [B, T].
        mask: [B, T], 1 on tokens that count.
        counts: Of the whole batch that these rollouts are a part of.
        loss_aggregation: The formula; see `LossAggregation`.
        max_completion_tokens: The constant of `seq-mean-token-sum-norm`, > 0.

    Returns:
        [B], at least float32; their sum over the whole batch is the number sought. 0 for a
        rollout without tokens, which is not counted either.

    Raises:
        ShapeError: Different shapes, or the constant is missing or not positive.
    """
    sums = masked_sum(token_losses, mask)
    num_rollouts = counts.num_rollouts.clamp(min=1)
    match loss_aggregation:
        case "seq-mean-token-mean":
            return row_means(token_losses, mask) / num_rollouts
        case "token-mean":
            return sums / counts.num_tokens.clamp(min=1)
        case "seq-mean-token-sum":
            return sums / num_rollouts
        case "seq-mean-token-sum-norm":
            if max_completion_tokens is None:
                raise ShapeError(
                    "seq-mean-token-sum-norm divides by max_completion_tokens: give it"
                )
            require_positive(max_completion_tokens=max_completion_tokens)
            return sums / (num_rollouts * max_completion_tokens)


def row_means(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that count, [B]; 0 and not NaN in a rollout without any."""
    return masked_sum(values, mask) / mask.bool().sum(-1).clamp(min=1)
