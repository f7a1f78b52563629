"""Squared losses that lead to the Nash policy of a preference game, by self-play."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.config import Config
from mmalign.errors import ShapeError
from mmalign.objectives.configs import Positive
from mmalign.objectives.online import leave_one_out_means
from mmalign.objectives.pairwise import ipo_loss, log_ratio_rewards
from mmalign.objectives.sums import require_one_per_pair, require_positive, require_same_shape
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "OnlineIPOLoss",
    "SPPOConfig",
    "SelfPlayLoss",
    "gpo_loss",
    "inpo_loss",
    "mixed_reference",
    "online_ipo_loss",
    "self_play_loss",
    "sppo_hard_loss",
    "sppo_loss",
]


def inpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    old_chosen_logps: Tensor,
    old_rejected_logps: Tensor,
    *,
    eta: float,
    tau: float,
) -> PreferenceLoss:
    """IPO whose reference stands between the fixed one and the iteration's first policy.

        mixed = (tau / eta) * ref_logps + (1 - tau / eta) * old_logps
        h     = (policy_chosen - mixed_chosen) - (policy_rejected - mixed_rejected)
        loss  = (h - 1 / (2 * eta))^2

    Args:
        policy_chosen_logps: [B], nats, summed over response tokens; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, from the reference that stays the same in all iterations;
            carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        old_chosen_logps: [B], nats, from the policy that drew the responses; carries no gradient.
            Equal to the reference in the first iteration.
        old_rejected_logps: [B], the same for the rejected response.
        eta: Step size of mirror descent, > 0; the margin sought is 1 / (2 * eta), 100 nats at
            the paper's 0.005.
        tau: Weight of the game's KL, in [0, eta], eta / 3 in the paper; eta gives IPO against
            the reference, 0 gives IPO against the old policy.

    Returns:
        Loss per pair [B], 1 / (4 * eta^2) where the three models agree; rewards
        eta * (policy_logps - mixed); metric `log_ratio_margin`, h.

    Raises:
        ShapeError: The six tensors are not [B] with the same B, or a setting is out of range.

    Source: INPO (Zhang et al., 2024), with the winner of each pair as its chosen response.
    """
    result = ipo_loss(
        policy_chosen_logps,
        policy_rejected_logps,
        mixed_reference(ref_chosen_logps, old_chosen_logps, eta=eta, tau=tau),
        mixed_reference(ref_rejected_logps, old_rejected_logps, eta=eta, tau=tau),
        beta=eta,
    )
    margins = (result.chosen_rewards - result.rejected_rewards) / eta
    return result._replace(metrics={"log_ratio_margin": margins})


def mixed_reference(ref_logps: Tensor, old_logps: Tensor, *, eta: float, tau: float) -> Tensor:
    """Log-probabilities of INPO's reference: the geometric mean of the fixed and the old one.

    Args:
        ref_logps: [...], nats, of the fixed reference.
        old_logps: [...], nats, of the policy at the beginning of the iteration.
        eta: Step size of mirror descent, > 0.
        tau: Weight of the game's KL, in [0, eta].

    Returns:
        [...], (tau / eta) * ref_logps + (1 - tau / eta) * old_logps, detached, not normalised.

    Raises:
        ShapeError: The tensors differ in shape, or a setting is out of range.
    """
    require_positive(eta=eta)
    if not 0 <= tau <= eta:
        raise ShapeError(f"tau is {tau}, expected 0 <= tau <= eta = {eta}")
    require_same_shape(ref_logps=ref_logps, old_logps=old_logps)
    return ((tau / eta) * ref_logps + (1 - tau / eta) * old_logps).detach()


class OnlineIPOLoss(NamedTuple):
    """What online IPO says about each pair of samples; neither is the chosen one."""

    loss: Tensor
    """[B], to be minimised; the trainer averages it over the global batch."""
    margins: Tensor
    """[B], nats, log-ratio of the first minus that of the second response, detached."""


def online_ipo_loss(
    policy_first_logps: Tensor,
    policy_second_logps: Tensor,
    ref_first_logps: Tensor,
    ref_second_logps: Tensor,
    first_win_rates: Tensor,
    second_win_rates: Tensor,
    *,
    beta: float,
    first_tokens: Tensor | None = None,
    second_tokens: Tensor | None = None,
) -> OnlineIPOLoss:
    """Bring the margin of two samples to their difference in win rate against an opponent.

        loss = ((policy_first - ref_first) - (policy_second - ref_second)
                - (first_win_rates - second_win_rates) / beta)^2

    EGPO takes two steps on it: to a half policy with the policy as its own opponent, then, from
    the same weights and the same optimiser state, one with the half policy as opponent. Where
    both samples and the opponent's are of one law, the win rates may be P(first > second) and
    1/2, which needs one comparison.

    Args:
        policy_first_logps: [B], nats, summed over response tokens; carries gradient.
        policy_second_logps: [B], the same for the other sample of the prompt.
        ref_first_logps: [B], nats, from the frozen reference; carries no gradient.
        ref_second_logps: [B], the same for the other sample.
        first_win_rates: [B], in [0, 1], probability to win against the opponent's sample.
        second_win_rates: [B], the same for the other sample.
        beta: Weight of the game's KL, > 0.
        first_tokens: [B], response tokens by which all first log-probabilities are divided, as
            the code does by default; None leaves the sums, to which the theory applies.
        second_tokens: [B], the same for the other sample; given with first_tokens or not at all.

    Returns:
        Loss per pair [B], 0 where the margin is the target; the margins [B].

    Raises:
        ShapeError: The tensors are not [B] with the same B, beta is not positive, or only one
            side has token counts.

    Source: EGPO (Zhou et al., 2025), its online IPO; with the constant difference 1/2 it is IPO.
    """
    require_positive(beta=beta)
    require_one_per_pair(
        policy_first_logps=policy_first_logps,
        policy_second_logps=policy_second_logps,
        ref_first_logps=ref_first_logps,
        ref_second_logps=ref_second_logps,
        first_win_rates=first_win_rates,
        second_win_rates=second_win_rates,
    )
    first = policy_first_logps - ref_first_logps.detach()
    second = policy_second_logps - ref_second_logps.detach()
    if first_tokens is not None and second_tokens is not None:
        require_one_per_pair(first=first, first_tokens=first_tokens, second_tokens=second_tokens)
        first, second = first / first_tokens, second / second_tokens
    elif first_tokens is not None or second_tokens is not None:
        raise ShapeError("token counts of one side only; give first_tokens and second_tokens")
    margins = first - second
    targets = (first_win_rates - second_win_rates).detach() / beta
    return OnlineIPOLoss(loss=(margins - targets).square(), margins=margins.detach())


def gpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    chosen_targets: Tensor,
    rejected_targets: Tensor,
    *,
    beta: float,
) -> PreferenceLoss:
    """Bring each response's reward to its advantage over the policy's own samples.

        log_ratio = policy_logps - ref_logps
        loss = 1/2 * ((chosen_log_ratio - chosen_targets / beta)^2
                      + (rejected_log_ratio - rejected_targets / beta)^2)

    Args:
        policy_chosen_logps: [B], nats, summed over response tokens; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, from the policy that drew the responses; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        chosen_targets: [B], mean score against the samples, of `score_targets`; detached here.
        rejected_targets: [B], the same for the rejected response.
        beta: Inverse step size, > 0; small, so that a target of 0.1 means 100 nats at 0.001.

    Returns:
        Loss per pair [B] and rewards beta * log_ratio. The log-normaliser of the step's exact
        solution is taken as 0.

    Raises:
        ShapeError: The six tensors are not [B] with the same B, or beta is not positive.

    Source: GPO (Zhang et al., 2024), the squared loss of SPPO (Wu et al., 2024) on scores.
    """
    chosen_rewards, rejected_rewards = log_ratio_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    require_one_per_pair(
        policy_chosen_logps=policy_chosen_logps,
        chosen_targets=chosen_targets,
        rejected_targets=rejected_targets,
    )
    chosen_gaps = (chosen_rewards - chosen_targets.detach()) / beta
    rejected_gaps = (rejected_rewards - rejected_targets.detach()) / beta
    return PreferenceLoss(
        loss=0.5 * (chosen_gaps.square() + rejected_gaps.square()),
        chosen_rewards=chosen_rewards.detach(),
        rejected_rewards=rejected_rewards.detach(),
    )


def sppo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    chosen_win_rates: Tensor,
    rejected_win_rates: Tensor,
    *,
    beta: float,
) -> PreferenceLoss:
    """`gpo_loss` with the win rates less 1/2 as targets.

    Args:
        policy_chosen_logps: [B], nats, summed over response tokens; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, from the policy that drew the responses; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        chosen_win_rates: [B], in [0, 1], against all samples of the prompt, a tie with itself
            included; detached here.
        rejected_win_rates: [B], the same for the rejected response.
        beta: Inverse step size, > 0.

    Returns:
        Loss per pair [B] and both rewards, as of `gpo_loss`.

    Raises:
        ShapeError: The six tensors are not [B] with the same B, or beta is not positive.

    Source: SPPO (Wu et al., 2024).
    """
    return gpo_loss(
        policy_chosen_logps,
        policy_rejected_logps,
        ref_chosen_logps,
        ref_rejected_logps,
        chosen_win_rates - 0.5,
        rejected_win_rates - 0.5,
        beta=beta,
    )


class SPPOConfig(Config):
    """Settings of sppo, sppo_hard and gpo."""

    beta: Positive = 0.001
    """Inverse step size; the log-ratios sought are 1 / (2 beta). Source: SPPO's code."""


def sppo_hard_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
) -> PreferenceLoss:
    """`sppo_loss` where the chosen response always wins and the rejected one never does.

        loss = 1/2 * ((chosen_log_ratio - 1 / (2 * beta))^2
                      + (rejected_log_ratio + 1 / (2 * beta))^2)

    Args:
        policy_chosen_logps: [B], nats, summed over response tokens; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, from the policy that drew the responses; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse step size, > 0.

    Returns:
        Loss per pair [B], 1 / (4 * beta^2) where policy equals reference; both rewards. Some
        trainers leave out the factor 1/2.

    Raises:
        ShapeError: The four tensors are not [B] with the same B, or beta is not positive.

    Source: SPPO (Wu et al., 2024), with labels for win rates.
    """
    return sppo_loss(
        policy_chosen_logps,
        policy_rejected_logps,
        ref_chosen_logps,
        ref_rejected_logps,
        torch.ones_like(policy_chosen_logps),
        torch.zeros_like(policy_rejected_logps),
        beta=beta,
    )


class SelfPlayLoss(NamedTuple):
    """What self-play says about each sample of each group."""

    loss: Tensor
    """[..., N], to be minimised; the trainer averages it over all samples."""
    advantages: Tensor
    """[..., N], sum 0 in each group, detached."""


def self_play_loss(policy_logps: Tensor, rewards: Tensor) -> SelfPlayLoss:
    """Raise the samples that win more often than the other samples of their prompt do.

        advantage = reward - mean reward of the others
        loss      = -advantage * policy_logps

    Args:
        policy_logps: [..., N], nats, summed over response tokens; carries gradient. N >= 2
            samples of one prompt along the last axis.
        rewards: [..., N], in [0, 1], of `win_rates`; detached here.

    Returns:
        Loss per sample and the advantages; not divided by the group's deviation, which would
        blow up the noise of a group of equals.

    Raises:
        ShapeError: The tensors differ in shape, or a group has fewer than 2 samples.

    Source: SPO (Swamy et al., 2024) for the rewards; the policy gradient is a reconstruction.
    """
    require_same_shape(policy_logps=policy_logps, rewards=rewards)
    if policy_logps.ndim < 1 or policy_logps.shape[-1] < 2:
        raise ShapeError(
            f"policy_logps is {list(policy_logps.shape)}, expected [..., N] with 2 or more "
            f"samples of a prompt"
        )
    advantages = (rewards - leave_one_out_means(rewards)).detach()
    return SelfPlayLoss(loss=-advantages * policy_logps, advantages=advantages)
