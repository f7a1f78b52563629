"""DPO on contrasts made from media: ambiguous answers, and altered clips."""

from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.configs import BetaConfig, NotNegative
from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.sums import (
    masked_mean,
    masked_sum,
    require_one_per_pair,
    require_same_shape,
)
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "CatADPOConfig",
    "PaMiVDPOObjective",
    "altered_clip_loss",
    "cat_adpo_loss",
    "pami_vdpo_loss",
]


class CatADPOConfig(BetaConfig):
    """Settings of cat_adpo. Source of beta: CAT's code."""

    lm_coef: NotNegative = 0.0
    """Weight of the chosen answer's NLL per token. Source: CAT's code, which does not use it."""


class PaMiVDPOObjective(BetaConfig):
    """Settings of pami_vdpo; beta is mmalign's reading, as is the rest."""

    lambda_sft: NotNegative = 0.0
    """Weight of the response's NLL per token given the original clip, an anchor."""


def cat_adpo_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    *,
    beta: float,
    lm_coef: float = 0.0,
) -> PreferenceLoss:
    """DPO of grounded over ambiguous answers, with a share of plain fine-tuning if wanted.

        nll  = -(mean of the chosen response's token_logps)
        loss = -log sigmoid(chosen_reward - rejected_reward) + lm_coef * nll

    Args:
        policy_chosen_token_logps: [B, T], nats; carries gradient.
        policy_rejected_token_logps: [B, T'], the same for the rejected response.
        ref_chosen_token_logps: [B, T], nats, from the frozen reference; carries no gradient.
        ref_rejected_token_logps: [B, T'].
        chosen_mask: [B, T], 1 on answer tokens, 0 on prompt, media and padding.
        rejected_mask: [B, T'].
        beta: Inverse temperature, > 0.
        lm_coef: Weight of the fine-tuning term, >= 0; 0 is DPO. Chosen answers as its text are a
            reconstruction: the trainer that CAT's is made from takes other data.

    Returns:
        Loss per pair [B], both rewards; metrics `rank_loss` and `nll`, without lm_coef.

    Raises:
        ShapeError: Tensors of one side differ in shape, the sides in B, or beta is not positive.

    Source: ADPO of CAT (Ye et al., 2024).
    """
    dpo = dpo_loss(
        masked_sum(policy_chosen_token_logps, chosen_mask),
        masked_sum(policy_rejected_token_logps, rejected_mask),
        masked_sum(ref_chosen_token_logps, chosen_mask),
        masked_sum(ref_rejected_token_logps, rejected_mask),
        beta=beta,
    )
    nll = -masked_mean(policy_chosen_token_logps, chosen_mask)
    return dpo._replace(
        loss=dpo.loss + lm_coef * nll,
        metrics={"rank_loss": dpo.loss.detach(), "nll": nll.detach()},
    )


def altered_clip_loss(
    policy_logps: Tensor,
    policy_altered_logps: Tensor,
    ref_logps: Tensor,
    ref_altered_logps: Tensor,
    selected: Tensor,
    weights: Tensor,
    *,
    beta: float,
) -> PreferenceLoss:
    """Prefer a clip over its selected alteration, for one prompt and one response.

        reward = beta * (policy_logps - ref_logps), both given the same clip
        loss   = weight * -log sigmoid(reward of the clip - reward of the selected alteration)

    The trainer divides by B, not by the sum of weights: a batch without a useful alteration then
    has no loss.

    Args:
        policy_logps: [B], nats, of the response given the clip, summed; carries gradient.
        policy_altered_logps: [B, K], the same given each altered clip; only the selected one
            receives gradient. K is 1 where only that one was run.
        ref_logps: [B], nats, from the frozen reference; carries no gradient.
        ref_altered_logps: [B, K]; the reference sees the altered clips too, so its terms do not
            cancel.
        selected: [B], integers from 0, `ClipChoice.selected`.
        weights: [B], in [0, 1], `ClipChoice.weight`; ones for plain video DPO. Detached.
        beta: Inverse temperature, > 0.

    Returns:
        Loss per sample [B]; the rewards given the clip and given the alteration; metric
        `rank_loss`, without the weights.

    Raises:
        ShapeError: The tensors are not [B] and [B, K] with the same B and K, or beta is not
            positive.

    Source: PaMi-VDPO (Ding et al., 2025); the weights are a reconstruction.
    """
    require_one_per_pair(
        policy_logps=policy_logps, ref_logps=ref_logps, selected=selected, weights=weights
    )
    require_same_shape(
        policy_altered_logps=policy_altered_logps, ref_altered_logps=ref_altered_logps
    )
    if policy_altered_logps.ndim != 2 or len(policy_altered_logps) != len(policy_logps):
        raise ShapeError(
            f"expected policy_logps [B] and policy_altered_logps [B, K] with the same B, found "
            f"{list(policy_logps.shape)} and {list(policy_altered_logps.shape)}"
        )
    index = selected.long().unsqueeze(-1)
    dpo = dpo_loss(
        policy_logps,
        policy_altered_logps.gather(1, index).squeeze(-1),
        ref_logps,
        ref_altered_logps.gather(1, index).squeeze(-1),
        beta=beta,
    )
    return dpo._replace(loss=weights.detach() * dpo.loss, metrics={"rank_loss": dpo.loss.detach()})


def pami_vdpo_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    weights: Tensor,
    *,
    beta: float,
    lambda_sft: float = 0.0,
) -> PreferenceLoss:
    """`altered_clip_loss` of the alteration that was selected, with an anchor if wanted.

        loss = weight * -log sigmoid(chosen_reward - rejected_reward) + lambda_sft * nll

    Args:
        policy_chosen_token_logps: [B, T], nats, of the response given the clip; carries gradient.
        policy_rejected_token_logps: [B, T'], of the same response given the altered clip.
        ref_chosen_token_logps: [B, T], nats, from the frozen reference; carries no gradient.
        ref_rejected_token_logps: [B, T'].
        chosen_mask: [B, T], 1 on tokens of the response, 0 on padding.
        rejected_mask: [B, T'].
        weights: [B], in [0, 1], `ClipChoice.weight`. Detached; they do not weigh the anchor.
        beta: Inverse temperature, > 0.
        lambda_sft: Weight of nll, the mean of -policy_chosen_token_logps, >= 0.

    Returns:
        Loss per pair [B], both rewards; metrics `rank_loss`, without the weights, `nll` and
        `weight`.

    Raises:
        ShapeError: Tensors of one side differ in shape, the sides in B, or beta is not positive.

    Source: PaMi-VDPO (Ding et al., 2025); weights and anchor are a reconstruction.
    """
    ranked = altered_clip_loss(
        masked_sum(policy_chosen_token_logps, chosen_mask),
        masked_sum(policy_rejected_token_logps, rejected_mask).unsqueeze(1),
        masked_sum(ref_chosen_token_logps, chosen_mask),
        masked_sum(ref_rejected_token_logps, rejected_mask).unsqueeze(1),
        selected=weights.new_zeros(weights.shape),
        weights=weights,
        beta=beta,
    )
    nll = -masked_mean(policy_chosen_token_logps, chosen_mask)
    metrics = {**ranked.metrics, "nll": nll.detach(), "weight": weights.detach()}
    return ranked._replace(loss=ranked.loss + lambda_sft * nll, metrics=metrics)
