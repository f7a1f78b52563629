"""UPO: DPO that trusts an uncertain pair less and holds the chosen response's likelihood."""

from torch import Tensor

from mmalign.objectives.pairwise import cdpo_loss
from mmalign.objectives.sums import require_one_per_pair
from mmalign.objectives.terms import PreferenceLoss

__all__ = ["upo_loss"]


def upo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
    label_smoothing: Tensor,
    chosen_tokens: Tensor,
    nll_weight: float,
) -> PreferenceLoss:
    """Smooth each pair's label by its own uncertainty and add the chosen response's NLL.

        margin = chosen_reward - rejected_reward
        loss   = -(1 - alpha) * log sigmoid(margin) - alpha * log sigmoid(-margin)
                 - nll_weight * policy_chosen_logps / chosen_tokens

    Args:
        policy_chosen_logps: [B], nats, summed over response tokens; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, from the policy of the round before; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse temperature, > 0.
        label_smoothing: [B], alpha, in [0, 1/2], of `uncertainty_label_smoothing`; detached.
        chosen_tokens: [B], length of the chosen response, > 0.
        nll_weight: lambda, >= 0; 0 with alpha 0 is DPO.

    Returns:
        Loss per pair [B], both rewards, and metrics `rank_loss` and `nll` (unweighted).

    Raises:
        ShapeError: The tensors are not [B] with the same B, or beta is not positive.

    Source: UPO (Wang et al., 2024), with the likelihood term that its prose describes, a
        reconstruction: as printed, it would lower the chosen response's likelihood.
    """
    require_one_per_pair(
        policy_chosen_logps=policy_chosen_logps,
        label_smoothing=label_smoothing,
        chosen_tokens=chosen_tokens,
    )
    ranked = cdpo_loss(
        policy_chosen_logps,
        policy_rejected_logps,
        ref_chosen_logps,
        ref_rejected_logps,
        beta=beta,
        label_smoothing=label_smoothing.detach(),
    )
    nll = -policy_chosen_logps / chosen_tokens
    return ranked._replace(
        loss=ranked.loss + nll_weight * nll,
        metrics={"rank_loss": ranked.loss.detach(), "nll": nll.detach()},
    )
