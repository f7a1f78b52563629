"""DPO and its relatives: losses on the log-probabilities of two whole responses."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.objectives.sums import (
    at_least_float32,
    masked_mean,
    masked_sum,
    require_one_per_pair,
    require_positive,
)
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "cdpo_loss",
    "dpo_loss",
    "hinge_loss",
    "ipo_loss",
    "log_odds",
    "log_ratio_rewards",
    "orpo_loss",
    "simpo_loss",
    "slic_loss",
]


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
) -> PreferenceLoss:
    """Push the policy to prefer the chosen response more than the reference does.

        reward = beta * (policy_logps - ref_logps)
        loss   = -log sigmoid(chosen_reward - rejected_reward)

    Args:
        policy_chosen_logps: [B], nats, summed over response tokens; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, from the frozen reference; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse temperature, > 0; larger keeps the policy nearer the reference.

    Returns:
        Loss per pair [B], log 2 where policy equals reference, and both rewards.

    Raises:
        ShapeError: The four tensors are not one-dimensional and of one length.

    Source: DPO (Rafailov et al., 2023), eq. 7.
    """
    chosen_rewards, rejected_rewards = log_ratio_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    return PreferenceLoss(
        loss=-F.logsigmoid(chosen_rewards - rejected_rewards),
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
    )


def cdpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
    label_smoothing: float | Tensor,
) -> PreferenceLoss:
    """DPO for labels of which a share is wrong; keeps the margin finite.

        margin = chosen_reward - rejected_reward
        loss   = -(1 - eps) * log sigmoid(margin) - eps * log sigmoid(-margin)

    Args:
        policy_chosen_logps: [B], nats, summed; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, summed; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse temperature, > 0.
        label_smoothing: eps, the share of swapped labels, in [0, 0.5), or one for each pair
            [B]; 0 is DPO.

    Returns:
        Loss per pair [B], smallest where the margin is log((1 - eps) / eps).

    Source: A note on DPO with noisy preferences (Mitchell, 2023).
    """
    chosen_rewards, rejected_rewards = log_ratio_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    margins = chosen_rewards - rejected_rewards
    return PreferenceLoss(
        loss=-(1 - label_smoothing) * F.logsigmoid(margins)
        - label_smoothing * F.logsigmoid(-margins),
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
    )


def ipo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
) -> PreferenceLoss:
    """Bring the margin of the log-ratios to a fixed size instead of growing it for ever.

        h    = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)
        loss = (h - 1 / (2 * beta))^2

    Args:
        policy_chosen_logps: [B], nats; carries gradient. Summed as the paper's equation has it,
            or averaged over the response's tokens as its published results do.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: tau in the paper, > 0; the margin sought is 1 / (2 * beta).

    Returns:
        Loss per pair [B], 1 / (4 * beta^2) where policy equals reference.

    Source: IPO (Azar et al., 2023), eq. 17.
    """
    chosen_rewards, rejected_rewards = log_ratio_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    h = (policy_chosen_logps - ref_chosen_logps) - (policy_rejected_logps - ref_rejected_logps)
    return PreferenceLoss(
        loss=(h - 1 / (2 * beta)).square(),
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
    )


def hinge_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
) -> PreferenceLoss:
    """DPO's margin under a hinge: pairs that are 1 apart no longer pull.

        loss = max(0, 1 - (chosen_reward - rejected_reward))

    Args:
        policy_chosen_logps: [B], nats, summed; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, summed; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse temperature, > 0; 1 / beta is the margin of log-ratios sought.

    Returns:
        Loss per pair [B], 1 where policy equals reference, with zero gradient at the kink.

    Source: RSO (Liu et al., 2023), the normalised hinge; not the loss of SLiC-HF.
    """
    chosen_rewards, rejected_rewards = log_ratio_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    return PreferenceLoss(
        loss=F.relu(1 - (chosen_rewards - rejected_rewards)),  # clamp has a gradient at the kink
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
    )


def slic_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    *,
    delta: float,
    sft_weight: float,
) -> PreferenceLoss:
    """Rank by a hinge on the policy's own log-probabilities, held by the chosen response's NLL.

        loss = max(0, delta - policy_chosen + policy_rejected) - sft_weight * policy_chosen

    Args:
        policy_chosen_logps: [B], nats, summed; carries gradient. Also the target of the second
            term.
        policy_rejected_logps: [B], the same for the rejected response.
        delta: Margin of log-probabilities sought, > 0.
        sft_weight: lambda in the paper, >= 0.

    Returns:
        Loss per pair [B]; the rewards are the log-probabilities themselves.

    Source: SLiC-HF (Zhao et al., 2023), with the chosen response as target.
    """
    require_one_per_pair(
        policy_chosen_logps=policy_chosen_logps, policy_rejected_logps=policy_rejected_logps
    )
    return PreferenceLoss(
        loss=F.relu(delta - policy_chosen_logps + policy_rejected_logps)
        - sft_weight * policy_chosen_logps,
        chosen_rewards=policy_chosen_logps.detach(),
        rejected_rewards=policy_rejected_logps.detach(),
    )


def simpo_loss(
    policy_chosen_mean_logps: Tensor,
    policy_rejected_mean_logps: Tensor,
    *,
    beta: float,
    gamma_beta_ratio: float,
) -> PreferenceLoss:
    """Rank by the mean log-probability of a token, without a reference.

        reward = beta * policy_mean_logps
        loss   = -log sigmoid(chosen_reward - rejected_reward - beta * gamma_beta_ratio)

    Args:
        policy_chosen_mean_logps: [B], nats per token; carries gradient.
        policy_rejected_mean_logps: [B], the same for the rejected response.
        beta: Scale of the reward, > 0; 2 and more, since means are small.
        gamma_beta_ratio: Target margin over beta, >= 0.

    Returns:
        Loss per pair [B] and both rewards, without the target margin.

    Source: SimPO (Meng et al., 2024), eq. 6; gamma as a ratio from its code.
    """
    require_one_per_pair(
        policy_chosen_mean_logps=policy_chosen_mean_logps,
        policy_rejected_mean_logps=policy_rejected_mean_logps,
    )
    chosen_rewards = beta * policy_chosen_mean_logps
    rejected_rewards = beta * policy_rejected_mean_logps
    return PreferenceLoss(
        loss=-F.logsigmoid(chosen_rewards - rejected_rewards - beta * gamma_beta_ratio),
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
    )


def orpo_loss(
    policy_chosen_token_logps: Tensor,
    policy_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    chosen_tokens_per_pair: Tensor,
    *,
    odds_weight: float,
) -> PreferenceLoss:
    """Fine-tune on the chosen response and raise its odds over the rejected one's.

        p    = exp(mean of the response's token_logps)
        odds = log p - log(1 - p)
        nll  = -(chosen token_logps summed over the batch) / (number of these tokens)
        loss = nll - odds_weight * log sigmoid(chosen_odds - rejected_odds)

    Coupled over the batch: nll is one number, added to every pair.

    Args:
        policy_chosen_token_logps: [B, T], nats; carries gradient.
        policy_rejected_token_logps: [B, T'], the same for the rejected response.
        chosen_mask: [B, T], 1 on response tokens.
        rejected_mask: [B, T'].
        chosen_tokens_per_pair: Scalar, tokens of the chosen responses over pairs, both of the
            global batch: so the mean of nll over its parts is the nll of the whole.
        odds_weight: lambda in the paper, beta in TRL, >= 0.

    Returns:
        Loss per pair [B]; the rewards are the log odds.

    Source: ORPO (Hong et al., 2024), eq. 6 and 7.
    """
    chosen_sums = masked_sum(policy_chosen_token_logps, chosen_mask)
    chosen_odds = log_odds(masked_mean(policy_chosen_token_logps, chosen_mask))
    rejected_odds = log_odds(masked_mean(policy_rejected_token_logps, rejected_mask))
    require_one_per_pair(chosen_odds=chosen_odds, rejected_odds=rejected_odds)
    nll = -chosen_sums.mean() / chosen_tokens_per_pair
    return PreferenceLoss(
        loss=nll - odds_weight * F.logsigmoid(chosen_odds - rejected_odds),
        chosen_rewards=chosen_odds.detach(),
        rejected_rewards=rejected_odds.detach(),
        metrics={"nll": nll.detach().expand_as(chosen_odds)},
    )


def log_ratio_rewards(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """DPO's implicit rewards of both responses, beta * (policy_logps - ref_logps).

    Args:
        policy_chosen_logps: [B], nats; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse temperature, > 0.

    Returns:
        Rewards of the chosen and of the rejected responses, [B] each, with gradient.

    Raises:
        ShapeError: The four tensors are not one-dimensional and of one length, or beta is not
            positive.
    """
    require_positive(beta=beta)
    require_one_per_pair(
        policy_chosen_logps=policy_chosen_logps,
        policy_rejected_logps=policy_rejected_logps,
        ref_chosen_logps=ref_chosen_logps,
        ref_rejected_logps=ref_rejected_logps,
    )
    return (
        beta * (policy_chosen_logps - ref_chosen_logps),
        beta * (policy_rejected_logps - ref_rejected_logps),
    )


def log_odds(mean_logps: Tensor) -> Tensor:
    """log p - log(1 - p) of a response whose token has the probability p = exp(mean_logps).

    Args:
        mean_logps: [B], nats per token, below 0.

    Returns:
        [B], at least float32, finite even where p rounds to 1.
    """
    mean_logps = at_least_float32(mean_logps)
    # a response of probability 1 has infinite odds and a gradient of NaN
    mean_logps = mean_logps.clamp(max=-torch.finfo(mean_logps.dtype).eps)
    return mean_logps - torch.log(-torch.expm1(mean_logps))
