"""Themis: a reward model that calls tools and writes a rationale before it scores.

A trace is the prompt with the answer to be judged, then calls of tools with their observations,
then a rationale with the end token, at which a scalar head gives the reward.
"""

from enum import IntEnum
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.sums import masked_sum, require_one_per_pair, require_same_shape
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "Segment",
    "SegmentTokens",
    "reward_ranking_loss",
    "segment_tokens_per_pair",
    "themis_loss",
    "themis_pooled_loss",
]


class Segment(IntEnum):
    """What a token of a trace belongs to."""

    PROMPT = 0
    """Context, question, padding; never learnt."""
    TOOL_CALL = 1
    """Thought, action and action input."""
    OBSERVATION = 2
    """What the tool answered."""
    RATIONALE = 3
    """The work after the last call, end token included."""
    ANSWER = 4
    """The answer that is judged."""


class SegmentTokens(NamedTuple):
    """Mean numbers of tokens in both traces of a pair, over the global batch; scalars."""

    tool_call: Tensor
    observation: Tensor
    rationale: Tensor
    chosen_answer: Tensor
    """Of the chosen trace alone: a rejected answer is never learnt."""


def segment_tokens_per_pair(chosen_segments: Tensor, rejected_segments: Tensor) -> SegmentTokens:
    """How many tokens of each segment a pair has on average.

    Args:
        chosen_segments: [P, T], `Segment` of each token of the chosen answers' traces.
        rejected_segments: [P, T'], of the rejected answers' traces.

    Returns:
        Scalars, of this part; the average over parts of equally many pairs is the batch's.
    """

    def mean(segments: Tensor, segment: Segment) -> Tensor:
        # torch.compile cannot compare with the member itself
        return (segments == segment.value).sum().double() / len(segments)

    def of_both(segment: Segment) -> Tensor:
        return mean(chosen_segments, segment) + mean(rejected_segments, segment)

    return SegmentTokens(
        tool_call=of_both(Segment.TOOL_CALL),
        observation=of_both(Segment.OBSERVATION),
        rationale=of_both(Segment.RATIONALE),
        chosen_answer=mean(chosen_segments, Segment.ANSWER),
    )


def reward_ranking_loss(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    """The loss of a plain reward model, by Bradley and Terry.

        loss = -log sigmoid(chosen_reward - rejected_reward)

    Args:
        chosen_rewards: [P], of any unit, up to one constant; carries gradient.
        rejected_rewards: [P], the same for the rejected response.

    Returns:
        Loss per pair [P], log 2 where both are equal. The two gradients add up to 0.

    Raises:
        ShapeError: The two are not [P] with the same P.
    """
    require_one_per_pair(chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards)
    return -F.logsigmoid(chosen_rewards - rejected_rewards)


def themis_loss(
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    chosen_token_logps: Tensor,
    rejected_token_logps: Tensor,
    chosen_segments: Tensor,
    rejected_segments: Tensor,
    tokens_per_pair: SegmentTokens,
    *,
    tool_weight: float = 1.0,
    rationale_weight: float = 1.0,
    train_observations: bool,
) -> PreferenceLoss:
    """Rank the rewards, and learn to call tools and to explain; the paper's form.

        nll  = -(token_logps of a segment, summed over the batch) / (number of these tokens)
        loss = rank + tool_weight * (tool_nll + observation_nll) + rationale_weight * rationale_nll

    Coupled over the batch: each nll is one mean over both traces of all pairs. A pair's loss
    holds its part of it, so that the mean over pairs is the loss above.

    Args:
        chosen_rewards: [P], at the end of the chosen answer's trace; carries gradient.
        rejected_rewards: [P], the same for the rejected answer.
        chosen_token_logps: [P, T], nats, of the trace; carries gradient.
        rejected_token_logps: [P, T'].
        chosen_segments: [P, T], `Segment` of each token.
        rejected_segments: [P, T'].
        tokens_per_pair: Of the global batch, by `segment_tokens_per_pair`.
        tool_weight: alpha, >= 0.
        rationale_weight: omega, >= 0.
        train_observations: Whether observation_nll counts. A model that learns it learns to
            invent results.

    Returns:
        Loss per pair [P] and both rewards; metrics `rank_loss`, `tool_loss`, `observation_loss`
        (told in either case) and `rationale_loss`, without weights.

    Raises:
        ShapeError: Tensors of one side differ in shape, or the sides in P.

    Source: Themis (Li et al., 2023), sec. 3.2; that each nll is a token mean is a reconstruction.
    """
    rank_loss = reward_ranking_loss(chosen_rewards, rejected_rewards)
    sums = _segment_sums(
        chosen_token_logps, rejected_token_logps, chosen_segments, rejected_segments
    )
    require_one_per_pair(rank_loss=rank_loss, traces=sums[Segment.TOOL_CALL])
    tool_loss = _nll(sums[Segment.TOOL_CALL], tokens_per_pair.tool_call)
    observation_loss = _nll(sums[Segment.OBSERVATION], tokens_per_pair.observation)
    rationale_loss = _nll(sums[Segment.RATIONALE], tokens_per_pair.rationale)
    calls = tool_loss + observation_loss if train_observations else tool_loss
    return PreferenceLoss(
        loss=rank_loss + tool_weight * calls + rationale_weight * rationale_loss,
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
        metrics={
            "rank_loss": rank_loss.detach(),
            "tool_loss": tool_loss.detach(),
            "observation_loss": observation_loss.detach(),
            "rationale_loss": rationale_loss.detach(),
        },
    )


def themis_pooled_loss(
    chosen_rewards: Tensor,
    rejected_rewards: Tensor,
    chosen_token_logps: Tensor,
    rejected_token_logps: Tensor,
    chosen_segments: Tensor,
    rejected_segments: Tensor,
    tokens_per_pair: SegmentTokens,
    *,
    rank_weight: float = 0.5,
    train_observations: bool,
    train_chosen_answer: bool,
) -> PreferenceLoss:
    """Rank the rewards, and learn all of the trace alike; the released code's form.

        lm   = -(token_logps of all learnt tokens of the batch, summed) / (number of these)
        loss = lm + rank_weight * rank

    Learnt are tool calls and rationales of both traces and, if asked for, observations and the
    chosen answer. Coupled over the batch as `themis_loss`; 0 where no token is learnt.

    Args:
        chosen_rewards: [P], at the end of the chosen answer's trace; carries gradient.
        rejected_rewards: [P], the same for the rejected answer.
        chosen_token_logps: [P, T], nats, of the trace; carries gradient.
        rejected_token_logps: [P, T'].
        chosen_segments: [P, T], `Segment` of each token.
        rejected_segments: [P, T'].
        tokens_per_pair: Of the global batch, by `segment_tokens_per_pair`.
        rank_weight: Weight of the ranking, >= 0.
        train_observations: False is the code's `--no_observation`.
        train_chosen_answer: The code's `--lm`.

    Returns:
        Loss per pair [P] and both rewards; metrics `rank_loss` and `lm_loss`, without weights.

    Raises:
        ShapeError: Tensors of one side differ in shape, or the sides in P.

    Source: Themis's code (ernie-research/Tool-Augmented-Reward-Model), reward_model.py.
    """
    rank_loss = reward_ranking_loss(chosen_rewards, rejected_rewards)
    sums = _segment_sums(
        chosen_token_logps, rejected_token_logps, chosen_segments, rejected_segments
    )
    require_one_per_pair(rank_loss=rank_loss, traces=sums[Segment.TOOL_CALL])
    learnt = sums[Segment.TOOL_CALL] + sums[Segment.RATIONALE]
    num_learnt = tokens_per_pair.tool_call + tokens_per_pair.rationale
    if train_observations:
        learnt = learnt + sums[Segment.OBSERVATION]
        num_learnt = num_learnt + tokens_per_pair.observation
    if train_chosen_answer:
        learnt = learnt + masked_sum(chosen_token_logps, chosen_segments == Segment.ANSWER.value)
        num_learnt = num_learnt + tokens_per_pair.chosen_answer
    lm_loss = _nll(learnt, num_learnt)
    return PreferenceLoss(
        loss=lm_loss + rank_weight * rank_loss,
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
        metrics={"rank_loss": rank_loss.detach(), "lm_loss": lm_loss.detach()},
    )


def _segment_sums(
    chosen_token_logps: Tensor,
    rejected_token_logps: Tensor,
    chosen_segments: Tensor,
    rejected_segments: Tensor,
) -> dict[Segment, Tensor]:
    """Log-probabilities of each segment in both traces of a pair, [P]."""
    require_same_shape(chosen_token_logps=chosen_token_logps, chosen_segments=chosen_segments)
    require_same_shape(
        rejected_token_logps=rejected_token_logps, rejected_segments=rejected_segments
    )
    if len(chosen_token_logps) != len(rejected_token_logps):
        raise ShapeError(
            f"{len(chosen_token_logps)} traces in chosen_token_logps and "
            f"{len(rejected_token_logps)} in rejected_token_logps, expected one per pair each"
        )
    return {
        segment: masked_sum(chosen_token_logps, chosen_segments == segment.value)
        + masked_sum(rejected_token_logps, rejected_segments == segment.value)
        for segment in (Segment.TOOL_CALL, Segment.OBSERVATION, Segment.RATIONALE)
    }


def _nll(sums: Tensor, tokens_per_pair: Tensor) -> Tensor:
    """[P]; 0 where the batch has no such token."""
    return -sums / tokens_per_pair.to(sums.dtype).clamp(min=torch.finfo(sums.dtype).tiny)
