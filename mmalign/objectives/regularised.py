"""A ranking loss plus the likelihood of a text that the policy shall keep or learn to write."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.config import Config
from mmalign.objectives.configs import NotNegative, Positive
from mmalign.objectives.pairwise import dpo_loss, log_odds
from mmalign.objectives.sums import masked_mean, masked_sum, require_one_per_pair
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "CPOConfig",
    "SFTForm",
    "SFTRegularisedConfig",
    "cpo_loss",
    "rationale_nll",
    "rdpo_rationale_loss",
    "rorpo_rationale_loss",
    "rpo_sft_regularised_loss",
    "sft_nll",
]

SFTForm = Literal["cumulative", "average", "token_mean"]
"""What the NLL of a batch's responses means: summed, per response, or per token of the batch."""


class SFTRegularisedConfig(Config):
    """Settings of rpo_sft_regularised. Source: RPO's recipe for Mistral-7B on UltraFeedback."""

    beta: Positive = 0.01
    """Inverse temperature. Source: RPO's recipes; 0.05 to 0.5 for Gemma."""
    sft_weight: NotNegative = 0.005
    """eta in the paper. Source: RPO's recipes; with `average` 0.2."""
    sft_form: SFTForm = "cumulative"
    """Summed NLL times beta as in the paper, or per response as its authors advise for reasoning,
    or per token of the batch as in TRL."""


class CPOConfig(Config):
    """Settings of cpo."""

    beta: Positive = 0.1
    """Inverse temperature. Source: TRL."""
    sft_weight: NotNegative = 1.0
    """Weight of the chosen response's NLL. Source: TRL, cpo_alpha."""
    sft_form: Literal["average", "token_mean"] = "average"
    """NLL per response, or per token of the batch as in TRL."""


def rpo_sft_regularised_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    chosen_tokens_per_pair: Tensor,
    *,
    beta: float,
    sft_weight: float,
    sft_form: SFTForm = "cumulative",
) -> PreferenceLoss:
    """DPO plus imitation of the chosen response, which keeps its likelihood from collapsing.

        loss = dpo + sft_weight * beta * nll    with the summed nll of form `cumulative`
        loss = dpo + sft_weight * nll           with `average` and `token_mean`

    Regularized Preference Optimization; not TRL's former rpo_alpha (iterative reasoning), nor
    Relative Preference Optimization. The imitated responses are the chosen ones.

    Args:
        policy_chosen_token_logps: [B, T], nats; carries gradient.
        policy_rejected_token_logps: [B, T'], the same for the rejected response.
        ref_chosen_token_logps: [B, T], nats, from the frozen reference; carries no gradient.
        ref_rejected_token_logps: [B, T'].
        chosen_mask: [B, T], 1 on response tokens.
        rejected_mask: [B, T'].
        chosen_tokens_per_pair: As in `sft_nll`; read by `token_mean` only.
        beta: Inverse temperature, > 0.
        sft_weight: eta in the paper, >= 0; the forms differ in scale by far.
        sft_form: `cumulative` as in the paper's main text, `average` as in its appendix F,
            `token_mean` as in TRL.

    Returns:
        Loss per pair [B], both rewards; metrics `rank_loss`, `sft_loss` (weighted) and
        `chosen_logps`, the number that the method protects.

    Raises:
        ShapeError: Tensors of one side differ in shape, the sides in B, or beta is not positive.

    Source: RPO (Z. Liu et al., 2024) and its released code.
    """
    chosen_logps = masked_sum(policy_chosen_token_logps, chosen_mask)
    rank = dpo_loss(
        chosen_logps,
        masked_sum(policy_rejected_token_logps, rejected_mask),
        masked_sum(ref_chosen_token_logps, chosen_mask),
        masked_sum(ref_rejected_token_logps, rejected_mask),
        beta=beta,
    )
    weight = sft_weight * beta if sft_form == "cumulative" else sft_weight
    sft_loss = weight * sft_nll(
        policy_chosen_token_logps, chosen_mask, chosen_tokens_per_pair, form=sft_form
    )
    return _plus(rank, sft_loss, sft_loss=sft_loss, chosen_logps=chosen_logps)


def cpo_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    chosen_tokens_per_pair: Tensor,
    *,
    beta: float,
    sft_weight: float,
    sft_form: Literal["average", "token_mean"] = "average",
) -> PreferenceLoss:
    """DPO without a reference, held by the NLL of the chosen response.

        reward = beta * policy_logps
        loss   = -log sigmoid(chosen_reward - rejected_reward) + sft_weight * nll

    Args:
        policy_chosen_token_logps: [B, T], nats; carries gradient.
        policy_rejected_token_logps: [B, T'], the same for the rejected response.
        chosen_mask: [B, T], 1 on response tokens.
        rejected_mask: [B, T'].
        chosen_tokens_per_pair: As in `sft_nll`; read by `token_mean` only.
        beta: Inverse temperature, > 0.
        sft_weight: >= 0; at 0 this is DPO with a uniform reference.
        sft_form: nll of each response over its tokens, or as in TRL over those of the batch.

    Returns:
        Loss per pair [B] and both rewards; metrics `rank_loss` and `nll` (unweighted).

    Raises:
        ShapeError: Tensors of one side differ in shape, the sides in B, or beta is not positive.

    Source: CPO (Xu et al., 2024), compared in Insights into Alignment (Saeidi et al., 2024).
    """
    chosen_logps = masked_sum(policy_chosen_token_logps, chosen_mask)
    rejected_logps = masked_sum(policy_rejected_token_logps, rejected_mask)
    no_reference = torch.zeros_like(chosen_logps)
    rank = dpo_loss(chosen_logps, rejected_logps, no_reference, no_reference, beta=beta)
    nll = sft_nll(policy_chosen_token_logps, chosen_mask, chosen_tokens_per_pair, form=sft_form)
    return _plus(rank, sft_weight * nll, nll=nll)


def rdpo_rationale_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    policy_rationale_token_logps: Tensor,
    rationale_mask: Tensor,
    *,
    beta: float,
    rationale_weight: float,
    rationale_reduction: Literal["sum", "mean"] = "sum",
    rationale_form: Literal["likelihood", "logsigmoid"] = "likelihood",
) -> PreferenceLoss:
    """DPO plus the likelihood of a text that says why the chosen response is better.

        loss = dpo - rationale_weight * rationale_logps                  as in the paper
        loss = dpo - log sigmoid(rationale_weight * rationale_logps)     as in its code

    Args:
        policy_chosen_logps: [B], nats, summed; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, summed; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        policy_rationale_token_logps: [B, Q], nats, of the rationale after a prompt that holds
            the question and both responses; carries gradient. No reference is asked about it.
        rationale_mask: [B, Q], 1 on rationale tokens; a row of zeros is a pair without one.
        beta: Inverse temperature, > 0.
        rationale_weight: gamma in the paper, >= 0.
        rationale_reduction: As in `rationale_nll`.
        rationale_form: As in `rationale_nll`.

    Returns:
        Loss per pair [B], DPO's alone where a rationale is missing, and both rewards; metrics
        `rank_loss` and `rationale_loss` (weighted).

    Raises:
        ShapeError: The tensors differ in B, rationale and mask in shape, or beta is not
            positive.

    Source: Data-centric preference optimization with rationales (Just et al., 2024), RDPO.
    """
    rank = dpo_loss(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    rationale_loss = rationale_nll(
        policy_rationale_token_logps,
        rationale_mask,
        weight=rationale_weight,
        reduction=rationale_reduction,
        form=rationale_form,
    )
    return _plus(rank, rationale_loss, rationale_loss=rationale_loss)


def rorpo_rationale_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    policy_rationale_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    rationale_mask: Tensor,
    chosen_tokens_per_pair: Tensor,
    *,
    odds_weight: float,
    rationale_weight: float,
    rationale_form: Literal["likelihood", "logsigmoid"] = "likelihood",
    sft_form: Literal["average", "token_mean"] = "average",
) -> PreferenceLoss:
    """ORPO plus the mean likelihood of a rationale; no reference at all.

        loss = nll - odds_weight * log sigmoid(chosen_odds - rejected_odds) + rationale_loss

    Args:
        policy_chosen_token_logps: [B, T], nats; carries gradient.
        policy_rejected_token_logps: [B, T'], the same for the rejected response.
        policy_rationale_token_logps: [B, Q], as in `rdpo_rationale_loss`.
        chosen_mask: [B, T], 1 on response tokens.
        rejected_mask: [B, T'].
        rationale_mask: [B, Q], 1 on rationale tokens; a row of zeros is a pair without one.
        chosen_tokens_per_pair: As in `sft_nll`; read by `token_mean` only.
        odds_weight: beta in the code, >= 0; it stands outside the sigmoid.
        rationale_weight: gamma in the paper, >= 0, on the mean over rationale tokens.
        rationale_form: `likelihood` is "simple" in the code, `logsigmoid` its other variant.
        sft_form: nll of each response over its tokens, or as in the code over those of the
            batch.

    Returns:
        Loss per pair [B]; the rewards are the log odds; metrics `rank_loss` (nll included) and
        `rationale_loss` (weighted).

    Raises:
        ShapeError: Tensors of one text differ in shape, or the texts in B.

    Source: Data-centric preference optimization with rationales (Just et al., 2024), RORPO.
    """
    chosen_odds = log_odds(masked_mean(policy_chosen_token_logps, chosen_mask))
    rejected_odds = log_odds(masked_mean(policy_rejected_token_logps, rejected_mask))
    require_one_per_pair(chosen_odds=chosen_odds, rejected_odds=rejected_odds)
    nll = sft_nll(policy_chosen_token_logps, chosen_mask, chosen_tokens_per_pair, form=sft_form)
    rank = PreferenceLoss(
        loss=nll - odds_weight * F.logsigmoid(chosen_odds - rejected_odds),
        chosen_rewards=chosen_odds.detach(),
        rejected_rewards=rejected_odds.detach(),
    )
    rationale_loss = rationale_nll(
        policy_rationale_token_logps,
        rationale_mask,
        weight=rationale_weight,
        reduction="mean",
        form=rationale_form,
    )
    return _plus(rank, rationale_loss, rationale_loss=rationale_loss)


def sft_nll(
    policy_token_logps: Tensor, mask: Tensor, tokens_per_response: Tensor, *, form: SFTForm
) -> Tensor:
    """What the policy still has to learn of a response: its negative log-likelihood.

    Args:
        policy_token_logps: [B, T], nats; carries gradient.
        mask: [B, T], 1 on response tokens.
        tokens_per_response: Scalar, tokens of these responses over their number, both of the
            global batch; read by `token_mean` only.
        form: `cumulative`, the sum over tokens; `average`, over the response's own tokens;
            `token_mean`, the sum over `tokens_per_response`, whose mean over the global batch
            is the mean over its tokens.

    Returns:
        [B], >= 0.

    Raises:
        ShapeError: Log-probabilities and mask differ in shape.
    """
    match form:
        case "cumulative":
            return -masked_sum(policy_token_logps, mask)
        case "average":
            return -masked_mean(policy_token_logps, mask)
        case "token_mean":
            return -masked_sum(policy_token_logps, mask) / tokens_per_response


def rationale_nll(
    policy_rationale_token_logps: Tensor,
    rationale_mask: Tensor,
    *,
    weight: float,
    reduction: Literal["sum", "mean"],
    form: Literal["likelihood", "logsigmoid"],
) -> Tensor:
    """The weighted loss of a rationale, 0 where the pair has none.

    Args:
        policy_rationale_token_logps: [B, Q], nats; carries gradient.
        rationale_mask: [B, Q], 1 on rationale tokens.
        weight: gamma, >= 0.
        reduction: Sum or mean over the rationale's tokens, M.
        form: `likelihood`, -weight * M; `logsigmoid`, -log sigmoid(weight * M), whose gradient
            is between half of the first one's and all of it.

    Returns:
        [B], >= 0; without gradient where the rationale is missing.

    Raises:
        ShapeError: Log-probabilities and mask differ in shape.
    """
    logps = masked_sum(policy_rationale_token_logps, rationale_mask)
    num_tokens = rationale_mask.bool().sum(-1)
    if reduction == "mean":
        logps = logps / num_tokens.clamp(min=1)  # 0 / 0 would reach the gradient
    loss = -weight * logps if form == "likelihood" else -F.logsigmoid(weight * logps)
    return loss.where(num_tokens > 0, 0.0)


def _plus(rank: PreferenceLoss, term: Tensor, **metrics: Tensor) -> PreferenceLoss:
    """The ranking loss with a further term, and what to log."""
    require_one_per_pair(rank_loss=rank.loss, term=term)
    return rank._replace(
        loss=rank.loss + term,
        metrics={
            "rank_loss": rank.loss.detach(),
            **{name: values.detach() for name, values in metrics.items()},
        },
    )
