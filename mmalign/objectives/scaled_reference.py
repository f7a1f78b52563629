"""DPO with more or less of its reference."""

from torch import Tensor

from mmalign.objectives.configs import BetaConfig, NotNegative
from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.terms import PreferenceLoss

__all__ = ["ScaledReferenceConfig", "dpo_scaled_reference_loss"]


class ScaledReferenceConfig(BetaConfig):
    """Settings of dpo_scaled_reference."""

    reference_weight: NotNegative = 1.0
    """gamma in the paper: 1 is DPO, 0 has no reference. Source: Chen et al. (2024), 0 to 2."""


def dpo_scaled_reference_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
    reference_weight: float,
) -> PreferenceLoss:
    """DPO whose reference counts by a factor.

        reward = beta * (policy_logps - reference_weight * ref_logps)
        loss   = -log sigmoid(chosen_reward - rejected_reward)

    Args:
        policy_chosen_logps: [B], nats, summed; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, summed; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse temperature, > 0.
        reference_weight: gamma, >= 0; 1 is DPO, 0 drops the reference.

    Returns:
        Loss per pair [B] and both rewards, which have the factor in them.

    Raises:
        ShapeError: The four tensors are not [B] with the same B, or beta is not positive.

    Source: Chen et al. (2024), "Preference Learning Algorithms Do Not Learn Preference
        Rankings", its loss with gamma; `alpha_scaling` in the code.
    """
    return dpo_loss(
        policy_chosen_logps,
        policy_rejected_logps,
        reference_weight * ref_chosen_logps,
        reference_weight * ref_rejected_logps,
        beta=beta,
    )
