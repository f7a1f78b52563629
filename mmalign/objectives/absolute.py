"""ASFT: fine-tuning with a target for each response of a pair on its own."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from mmalign.config import Config
from mmalign.objectives.configs import NotNegative, Positive
from mmalign.objectives.pairwise import log_odds
from mmalign.objectives.regularised import sft_nll
from mmalign.objectives.sums import masked_mean, require_one_per_pair, require_positive
from mmalign.objectives.terms import PreferenceLoss

__all__ = ["ASFTConfig", "asft_loss"]


class ASFTConfig(Config):
    """Settings of asft. Source: Gorbatovski et al. (2025), who compare it with DPO and ORPO."""

    align_weight: NotNegative = 1.0
    """lambda: weight of both absolute terms; best of 0.1 to 1.0 in training from the base."""
    beta: Positive = 1.0
    """Temperature of the odds; 1 is the original."""
    sft_weight: NotNegative = 1.0
    """1 trains in one stage; 0 leaves the absolute terms alone, for a policy fine-tuned before."""
    sft_form: Literal["average", "token_mean"] = "average"
    """NLL per response, or per token of the batch as codes of ORPO have it."""


def asft_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    chosen_tokens_per_pair: Tensor,
    *,
    align_weight: float,
    beta: float = 1.0,
    sft_weight: float = 1.0,
    sft_form: Literal["average", "token_mean"] = "average",
) -> PreferenceLoss:
    """Fine-tune on the chosen response, raise its odds and lower the rejected one's.

        p     = exp(mean of the response's token_logps)
        odds  = log p - log(1 - p)
        align = -log sigmoid(beta * chosen_odds) - log sigmoid(-beta * rejected_odds)
        loss  = sft_weight * nll + align_weight * align

    The sides are not coupled and no reference is asked. With beta 1, align is -log p of the
    chosen response - log(1 - p) of the rejected one: it holds the NLL a second time.

    Args:
        policy_chosen_token_logps: [B, T], nats; carries gradient.
        policy_rejected_token_logps: [B, T'], the same for the rejected response.
        chosen_mask: [B, T], 1 on response tokens.
        rejected_mask: [B, T'].
        chosen_tokens_per_pair: As in `sft_nll`; read by `token_mean` only.
        align_weight: lambda, >= 0; 0 is fine-tuning. The paper calls it beta.
        beta: Temperature of the odds, > 0, of the tempered form; 1 is the original.
        sft_weight: 1 in the original; 0 keeps the absolute terms alone.
        sft_form: nll of each response over its tokens, or of the tokens of the batch.

    Returns:
        Loss per pair [B]; the rewards are the log odds, without beta; metrics `nll` and
        `align_loss`, both unweighted.

    Raises:
        ShapeError: Tensors of one side differ in shape, the sides in B, or beta is not positive.

    Source: ASFT (Wang et al., 2024); tempered in Gorbatovski et al. (2025).
    """
    require_positive(beta=beta)
    chosen_odds = log_odds(masked_mean(policy_chosen_token_logps, chosen_mask))
    rejected_odds = log_odds(masked_mean(policy_rejected_token_logps, rejected_mask))
    require_one_per_pair(chosen_odds=chosen_odds, rejected_odds=rejected_odds)
    nll = sft_nll(policy_chosen_token_logps, chosen_mask, chosen_tokens_per_pair, form=sft_form)
    align_loss = -F.logsigmoid(beta * chosen_odds) - F.logsigmoid(-beta * rejected_odds)
    return PreferenceLoss(
        loss=sft_weight * nll + align_weight * align_loss,
        chosen_rewards=chosen_odds.detach(),
        rejected_rewards=rejected_odds.detach(),
        metrics={"nll": nll.detach(), "align_loss": align_loss.detach()},
    )
