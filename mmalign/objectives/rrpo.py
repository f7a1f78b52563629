"""RRPO: reward only where the responses differ, hold the policy everywhere else."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from mmalign.objectives.sums import (
    masked_mean,
    masked_sum,
    require_one_per_pair,
    require_same_shape,
)
from mmalign.objectives.terms import PreferenceLoss

__all__ = ["rrpo_loss"]


def rrpo_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    chosen_phrase_ids: Tensor,
    rejected_phrase_ids: Tensor,
    chosen_token_kl: Tensor,
    *,
    beta: float,
    alpha: float,
    kl_reduction: Literal["sum", "mean"] = "sum",
) -> PreferenceLoss:
    """Prefer the right phrases over the wrong ones and stay near the reference elsewhere.

        reward = beta * sum over tokens of a phrase (policy_token_logps - ref_token_logps)
        u      = sum of chosen rewards - sum of rejected rewards
        kl     = sum over tokens of the chosen response KL(ref || policy)
        loss   = -log sigmoid(u) + alpha * kl

    How tokens are grouped into phrases changes nothing in the loss: u is a plain sum.

    Args:
        policy_chosen_token_logps: [B, T], nats; carries gradient.
        policy_rejected_token_logps: [B, T'], the same for the rejected response.
        ref_chosen_token_logps: [B, T], nats, from the frozen reference; carries no gradient.
        ref_rejected_token_logps: [B, T'].
        chosen_mask: [B, T], 1 on response tokens.
        rejected_mask: [B, T'].
        chosen_phrase_ids: [B, T], 0 on tokens that both sides share, counted inside the mask.
        rejected_phrase_ids: [B, T'].
        chosen_token_kl: [B, T], nats, `forward_kl` at each chosen token; carries gradient.
        beta: Inverse temperature, > 0.
        alpha: Weight of the KL, >= 0; not scaled by beta.
        kl_reduction: `sum` as in the paper, which pulls long answers harder, or `mean` over
            the chosen response's tokens.

    Returns:
        Loss per pair [B], log 2 where policy equals reference; both sides' summed phrase
        rewards; metrics `kl` (unweighted) and `rank_loss`.

    Raises:
        ShapeError: Tensors of one side differ in shape, or the sides in B.

    Source: RRPO (Sarkar & Etemad, 2025), with alpha * kl added to the loss as the released code
        does: the printed sign would reward a large KL.
    """
    require_same_shape(
        policy_chosen_token_logps=policy_chosen_token_logps,
        ref_chosen_token_logps=ref_chosen_token_logps,
        chosen_mask=chosen_mask,
        chosen_phrase_ids=chosen_phrase_ids,
        chosen_token_kl=chosen_token_kl,
    )
    require_same_shape(
        policy_rejected_token_logps=policy_rejected_token_logps,
        ref_rejected_token_logps=ref_rejected_token_logps,
        rejected_mask=rejected_mask,
        rejected_phrase_ids=rejected_phrase_ids,
    )
    chosen_rewards = beta * masked_sum(
        policy_chosen_token_logps - ref_chosen_token_logps,
        (chosen_phrase_ids > 0) & chosen_mask.bool(),
    )
    rejected_rewards = beta * masked_sum(
        policy_rejected_token_logps - ref_rejected_token_logps,
        (rejected_phrase_ids > 0) & rejected_mask.bool(),
    )
    require_one_per_pair(chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards)
    rank_loss = -F.logsigmoid(chosen_rewards - rejected_rewards)
    reduce = masked_sum if kl_reduction == "sum" else masked_mean
    kl = reduce(chosen_token_kl, chosen_mask)
    return PreferenceLoss(
        loss=rank_loss + alpha * kl,
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
        metrics={"kl": kl.detach(), "rank_loss": rank_loss.detach()},
    )
