"""Flex-DPO: a smaller beta on the rejected side, so that its fall does not drown the rest."""

from torch import Tensor

from mmalign.config import Config
from mmalign.objectives.configs import Positive
from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.sums import require_positive
from mmalign.objectives.terms import PreferenceLoss

__all__ = ["FlexDPOConfig", "flex_dpo_loss"]


class FlexDPOConfig(Config):
    """Settings of flex_dpo."""

    beta_chosen: Positive = 0.1
    """beta+ in the paper: inverse temperature of the chosen side. Source: 3D-Properties."""
    beta_rejected: Positive = 0.08
    """beta- in the paper; below beta_chosen. Source: 3D-Properties, its table for mathematics."""


def flex_dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta_chosen: float,
    beta_rejected: float,
) -> PreferenceLoss:
    """DPO with a temperature for each side: what the rejected side gains is scaled down.

        reward = beta_chosen * log-ratio      of the chosen response
        reward = beta_rejected * log-ratio    of the rejected one
        loss   = -log sigmoid(chosen_reward - rejected_reward)

    Equal betas are DPO. Unequal ones no longer cancel what both responses share, and much
    smaller beta_rejected leaves fine-tuning on the chosen response.

    Args:
        policy_chosen_logps: [B], nats, summed; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, summed; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta_chosen: > 0.
        beta_rejected: > 0, below beta_chosen; above it, the rejected side falls faster still.

    Returns:
        Loss per pair [B], log 2 where policy equals reference, and both rewards.

    Raises:
        ShapeError: The four tensors are not [B] with the same B, or a beta is not positive.

    Source: 3D-Properties (Yan et al., 2024), sec. 5.
    """
    require_positive(beta_chosen=beta_chosen, beta_rejected=beta_rejected)
    scale = beta_rejected / beta_chosen
    return dpo_loss(
        policy_chosen_logps,
        scale * policy_rejected_logps,
        ref_chosen_logps,
        scale * ref_rejected_logps,
        beta=beta_chosen,
    )
