"""Whether a policy ranks responses as people do, and what it would take to change its mind."""

import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.pairwise import log_ratio_rewards
from mmalign.objectives.sums import (
    require_finite,
    require_one_per_pair,
    require_positive,
    require_same_shape,
)

__all__ = [
    "BETA_GRID",
    "FlipDifficulty",
    "RankingGap",
    "Transition",
    "competition_ranks",
    "exact_list_match",
    "flip_difficulty",
    "idealised_log_ratios",
    "ipo_flip_losses",
    "rank_transitions",
    "ranked_right",
    "ranked_right_with_ties",
    "ranking_gap",
    "rewarded_right",
]

BETA_GRID = (0.01, 0.1, 1.0, 5.0, 10.0)
"""Values of beta over which the idealised accuracy is told. Source: Chen et al. (2024)."""

Transition = Literal[
    "correct->correct", "correct->incorrect", "incorrect->correct", "incorrect->incorrect"
]
"""How the reference ranks a pair, and how the policy does."""


class FlipDifficulty(NamedTuple):
    """What DPO must do to rank each pair right; it needs the reference only."""

    ref_log_ratios: Tensor
    """[B], c = log ref(rejected) - log ref(chosen); the larger, the harder."""
    margins: Tensor
    """[B], beta * c, which the policy's reward gap would have to make up for."""
    loss_thresholds: Tensor
    """[B], -log sigmoid(beta * c): ranked right exactly where DPO's loss is at most this."""


class RankingGap(NamedTuple):
    """Shares of pairs, in [0, 1]."""

    accuracy: float
    """Of pairs that the policy ranks right."""
    idealised_lowest: float
    """Of pairs that a perfectly trained policy ranks right, at the worst beta."""
    idealised_median: float
    idealised_highest: float
    gap: float
    """idealised_median - accuracy."""


def ranked_right(chosen_logps: Tensor, rejected_logps: Tensor) -> Tensor:
    """Which pairs a model ranks right; their mean is its ranking accuracy.

        chosen_logps >= rejected_logps

    Not the accuracy of rewards that trainers log: see `rewarded_right`.

    Args:
        chosen_logps: [B], nats, of any model: summed (R), or divided by the number of tokens
            (the length-normalised R~). Sums favour the shorter response.
        rejected_logps: [B], the same for the rejected response.

    Returns:
        [B], true or false; equal log-probabilities are right.

    Raises:
        ShapeError: The two are not [B] with the same B, or hold NaN or an infinity.

    Source: Chen et al. (2024), "Preference Learning Algorithms Do Not Learn Preference Rankings".
    """
    _require_logps(chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    return chosen_logps.detach() >= rejected_logps.detach()


def ranked_right_with_ties(
    chosen_mean_logps: Tensor,
    rejected_mean_logps: Tensor,
    rater_shares: Tensor,
    *,
    tolerance: float = 0.01,
) -> Tensor:
    """Which pairs a model ranks right where raters may be undecided.

        share = 1/2:  |exp(chosen) - exp(rejected)| < tolerance
        share > 1/2:  exp(chosen) > exp(rejected)

    Args:
        chosen_mean_logps: [B], nats per token. The paper's text has probabilities of whole
            responses, which are near 0 and hence always tied.
        rejected_mean_logps: [B], the same for the rejected response.
        rater_shares: [B], in [0.5, 1], share of raters that prefer the chosen response.
        tolerance: Of probabilities, > 0.

    Returns:
        [B], true or false. A decided pair has to be strictly right, by any amount.

    Raises:
        ShapeError: Not [B] with the same B, not finite, or a share outside [0.5, 1].

    Source: Chen et al. (2024), on the length-normalised probabilities of its code.
    """
    require_positive(tolerance=tolerance)
    _require_logps(
        chosen_mean_logps=chosen_mean_logps,
        rejected_mean_logps=rejected_mean_logps,
        rater_shares=rater_shares,
    )
    _require_shares(rater_shares)
    gaps = chosen_mean_logps.detach().exp() - rejected_mean_logps.detach().exp()
    return torch.where(rater_shares == 0.5, gaps.abs() < tolerance, gaps > 0)


def rewarded_right(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
) -> Tensor:
    """Which pairs DPO's implicit rewards rank right; their mean is the reward accuracy.

    Args:
        policy_chosen_logps: [B], nats, summed.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B].
        ref_rejected_logps: [B].
        beta: Inverse temperature, > 0; changes nothing but rounding.

    Returns:
        [B], true or false; equal rewards are wrong.

    Raises:
        ShapeError: Not [B] with the same B, not finite, or beta is not positive.
    """
    chosen_rewards, rejected_rewards = log_ratio_rewards(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta
    )
    require_finite(chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards)
    return chosen_rewards.detach() > rejected_rewards.detach()


def idealised_log_ratios(
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    rater_shares: Tensor,
    *,
    beta: float,
    eps: float = 0.001,
) -> Tensor:
    """Log-ratio of both responses under the policy that DPO or RLHF has as its optimum.

        log ref(chosen) - log ref(rejected) + (1 / beta) * log(share / (1 - share))

    Above 0 the optimum ranks the pair right.

    Args:
        ref_chosen_logps: [B], nats, summed, or per token for the length-normalised form.
        ref_rejected_logps: [B], the same for the rejected response.
        rater_shares: [B], in [0.5, 1]; 0.75 is the code's stand-in where they are unknown.
        beta: Inverse temperature, > 0.
        eps: Where all raters agree, the odds are 1 / eps.

    Returns:
        [B], nats, detached.

    Raises:
        ShapeError: Not [B] with the same B, not finite, a share outside [0.5, 1], or beta or eps
            not positive.

    Source: Chen et al. (2024), theorem 3.1. Its code multiplies the odds by a ratio of
        log-probabilities where no lengths are divided out, so published figures differ.
    """
    require_positive(beta=beta, eps=eps)
    _require_logps(
        ref_chosen_logps=ref_chosen_logps,
        ref_rejected_logps=ref_rejected_logps,
        rater_shares=rater_shares,
    )
    _require_shares(rater_shares)
    odds = torch.where(rater_shares == 1, 1 / eps, rater_shares / (1 - rater_shares))
    return (ref_chosen_logps - ref_rejected_logps + odds.log() / beta).detach()


def ranking_gap(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    rater_shares: Tensor,
    *,
    betas: Sequence[float] = BETA_GRID,
) -> RankingGap:
    """How far a policy's ranking accuracy stays below that of a perfectly trained one.

    Args:
        policy_chosen_logps: [B], nats, summed or per token, all four alike.
        policy_rejected_logps: [B].
        ref_chosen_logps: [B].
        ref_rejected_logps: [B].
        rater_shares: [B], in [0.5, 1].
        betas: Grid where the beta of training is unknown, else that one.

    Returns:
        Both accuracies and the alignment gap, against the median over the grid.

    Raises:
        ShapeError: As `ranked_right` and `idealised_log_ratios`.

    Source: Chen et al. (2024).
    """
    accuracy = ranked_right(policy_chosen_logps, policy_rejected_logps).double().mean().item()
    ratios = [
        idealised_log_ratios(ref_chosen_logps, ref_rejected_logps, rater_shares, beta=beta)
        for beta in betas
    ]
    idealised = [(ratio > 0).double().mean().item() for ratio in ratios]
    median = statistics.median(idealised)
    return RankingGap(accuracy, min(idealised), median, max(idealised), median - accuracy)


def flip_difficulty(
    ref_chosen_logps: Tensor, ref_rejected_logps: Tensor, *, beta: float
) -> FlipDifficulty:
    """How low DPO's loss on each pair must fall before the policy ranks it right.

    Args:
        ref_chosen_logps: [B], nats, summed.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: DPO's, > 0.

    Returns:
        Easy pairs have c far below 0, hard ones far above.

    Raises:
        ShapeError: Not [B] with the same B, not finite, or beta is not positive.

    Source: Chen et al. (2024), theorem 4.1.
    """
    require_positive(beta=beta)
    _require_logps(ref_chosen_logps=ref_chosen_logps, ref_rejected_logps=ref_rejected_logps)
    c = (ref_rejected_logps - ref_chosen_logps).detach()
    return FlipDifficulty(c, beta * c, -F.logsigmoid(beta * c))


def ipo_flip_losses(ref_chosen_logps: Tensor, ref_rejected_logps: Tensor, *, tau: float) -> Tensor:
    """IPO's loss on each pair at or below which the policy ranks it right for sure.

        d = log ref(chosen) - log ref(rejected)
        (d + 1 / (2 tau))^2   where d >= -1 / (2 tau), else -1

    Args:
        ref_chosen_logps: [B], nats, summed.
        ref_rejected_logps: [B], the same for the rejected response.
        tau: IPO's, > 0.

    Returns:
        [B]; -1, which no loss reaches, where even a loss of 0 leaves the pair wrong.

    Raises:
        ShapeError: Not [B] with the same B, not finite, or tau is not positive.

    Source: Chen et al. (2024).
    """
    require_positive(tau=tau)
    _require_logps(ref_chosen_logps=ref_chosen_logps, ref_rejected_logps=ref_rejected_logps)
    reach = (ref_chosen_logps - ref_rejected_logps).detach() + 1 / (2 * tau)
    return torch.where(reach >= 0, reach.square(), -1.0)


def competition_ranks(logps: Tensor) -> Tensor:
    """Rank of each response in its list: 1 + number of strictly likelier ones.

    Args:
        logps: [L, N], nats.

    Returns:
        [L, N], integers; equal responses share the better rank.
    """
    return 1 + (logps.unsqueeze(-2) > logps.unsqueeze(-1)).sum(-1)


def exact_list_match(logps: Tensor, human_ranks: Tensor) -> Tensor:
    """Which lists a model ranks exactly as people do.

    Args:
        logps: [L, N], nats, summed.
        human_ranks: [L, N], a permutation of 1 ... N in each row, 1 the most preferred.

    Returns:
        [L], true or false; a tie of the model never matches.

    Raises:
        ShapeError: The two differ in shape, logps are not finite, or people's ranks are tied:
            then take the list apart into pairs.

    Source: Chen et al. (2024).
    """
    require_same_shape(logps=logps, human_ranks=human_ranks)
    require_finite(logps=logps)
    in_order = torch.arange(1, logps.shape[-1] + 1, device=human_ranks.device)
    for row, ranks in enumerate(human_ranks.sort(-1).values):
        if not bool((ranks == in_order).all()):
            raise ShapeError(
                f"human_ranks[{row}] is {human_ranks[row].tolist()}, expected each of 1 ... "
                f"{logps.shape[-1]} once; compare tied lists pair by pair"
            )
    return (competition_ranks(logps) == human_ranks).all(-1)


def rank_transitions(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
) -> list[Transition]:
    """What training did to the ranking of each pair, from the reference to the policy.

    Args:
        policy_chosen_logps: [B], nats, summed, like the other three.
        policy_rejected_logps: [B].
        ref_chosen_logps: [B].
        ref_rejected_logps: [B].

    Returns:
        One class for each pair, both sides by `ranked_right`.

    Raises:
        ShapeError: As `ranked_right`, or policy and reference differ in B.

    Source: Chen et al. (2024); its trainer counts equal log-probabilities of the policy as wrong.
    """
    before = ranked_right(ref_chosen_logps, ref_rejected_logps)
    after = ranked_right(policy_chosen_logps, policy_rejected_logps)
    require_one_per_pair(before=before, after=after)
    names: dict[tuple[bool, bool], Transition] = {
        (True, True): "correct->correct",
        (True, False): "correct->incorrect",
        (False, True): "incorrect->correct",
        (False, False): "incorrect->incorrect",
    }
    return [names[pair] for pair in zip(before.tolist(), after.tolist(), strict=True)]


def _require_logps(**logps: Tensor) -> None:
    require_one_per_pair(**logps)
    require_finite(**logps)


def _require_shares(rater_shares: Tensor) -> None:
    bad = ((rater_shares < 0.5) | (rater_shares > 1)).nonzero()
    if len(bad):
        place = int(bad[0, 0])
        raise ShapeError(
            f"rater_shares[{place}] is {rater_shares[place].item()}, expected a share in [0.5, 1] "
            f"of raters for the chosen response; swap the sides of the pair"
        )
