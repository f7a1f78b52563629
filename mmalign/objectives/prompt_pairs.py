"""MAPL: preference between prompts for one response, and between margins of two prompts."""

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.sums import require_one_per_pair
from mmalign.objectives.terms import PreferenceLoss

__all__ = ["mapl_loss", "margin_gain_loss"]


def mapl_loss(
    chosen_log_ratios: Tensor,
    rejected_log_ratios: Tensor,
    obeyed_log_ratios: Tensor,
    violated_log_ratios: Tensor,
    instructed_chosen_log_ratios: Tensor,
    instructed_rejected_log_ratios: Tensor,
    *,
    beta: float,
    intra_weight: float = 1.0,
    inter_weight: float = 1.0,
    detach_base_margin: bool = False,
) -> PreferenceLoss:
    """Prefer the better response, the prompt that a response obeys, and a larger margin under it.

        rho   = policy_logps - ref_logps, each under the prompt that is named
        pref  = -log sigmoid(beta * (rho(chosen | x) - rho(rejected | x)))
        intra = -log sigmoid(beta * (rho(y | x obeyed) - rho(y | x violated)))
        inter = -log sigmoid(beta * (margin of rho under x' - margin of rho under x))
        loss  = pref + intra_weight * intra + inter_weight * inter

    Row b of the three terms needs no common record, except that pref and inter share x. The mean
    over B is the published sum of means, as the three kinds are mixed 1 : 1 : 1. This sum, the
    inter term and the mix are reconstructions.

    Args:
        chosen_log_ratios: [B], nats, rho of the chosen response under the prompt x; carries
            gradient, as all log-ratios do.
        rejected_log_ratios: [B], the same for the rejected response.
        obeyed_log_ratios: [B], rho of one response under a prompt whose instructions it meets.
        violated_log_ratios: [B], rho of the same response under a prompt that it violates. The
            normalisers of the two prompts differ; the method ignores that.
        instructed_chosen_log_ratios: [B], rho of the chosen response under x', which is x with
            instructions that only the chosen response meets.
        instructed_rejected_log_ratios: [B], the same for the rejected response.
        beta: Inverse temperature, > 0.
        intra_weight: lambda 1, >= 0.
        inter_weight: lambda 2, >= 0.
        detach_base_margin: Keep the inter term from lowering the margin under x.

    Returns:
        Loss per row [B]; the rewards are those of pref; metrics `pref_loss`, `intra_loss` and
        `inter_loss`, without their weights.

    Raises:
        ShapeError: The tensors are not [B] with the same B, beta is not positive, or a weight is
            negative.

    Source: MAPL (Sun et al., 2025); intra as in Rc-DPO (Cai et al., 2025).
    """
    if not (intra_weight >= 0 and inter_weight >= 0):
        raise ShapeError(
            f"intra_weight is {intra_weight} and inter_weight is {inter_weight}, "
            f"expected numbers from 0 on"
        )
    require_one_per_pair(chosen_log_ratios=chosen_log_ratios, obeyed_log_ratios=obeyed_log_ratios)
    pref = _ratio_loss(chosen_log_ratios, rejected_log_ratios, beta)
    intra = _ratio_loss(obeyed_log_ratios, violated_log_ratios, beta)
    inter = margin_gain_loss(
        instructed_chosen_log_ratios,
        instructed_rejected_log_ratios,
        chosen_log_ratios,
        rejected_log_ratios,
        beta=beta,
        detach_base_margin=detach_base_margin,
    )
    return pref._replace(
        loss=pref.loss + intra_weight * intra.loss + inter_weight * inter.loss,
        metrics={
            "pref_loss": pref.loss.detach(),
            "intra_loss": intra.loss.detach(),
            "inter_loss": inter.loss.detach(),
        },
    )


def margin_gain_loss(
    instructed_chosen_log_ratios: Tensor,
    instructed_rejected_log_ratios: Tensor,
    chosen_log_ratios: Tensor,
    rejected_log_ratios: Tensor,
    *,
    beta: float,
    detach_base_margin: bool = False,
) -> PreferenceLoss:
    """Let the margin of a pair grow once the prompt asks for what only its chosen side has.

        margin = rho(chosen | prompt) - rho(rejected | prompt)
        loss   = -log sigmoid(beta * (margin under x' - margin under x))

    Args:
        instructed_chosen_log_ratios: [B], nats, policy_logps - ref_logps under x'; carries
            gradient, as the others do.
        instructed_rejected_log_ratios: [B], the same for the rejected response.
        chosen_log_ratios: [B], under the plain prompt x.
        rejected_log_ratios: [B], the same for the rejected response.
        beta: Inverse temperature, > 0.
        detach_base_margin: No gradient through the margin under x. A reconstruction.

    Returns:
        Loss per pair [B], log 2 where both margins are equal; in place of the rewards beta times
        the margin under x' and under x.

    Source: MAPL (Sun et al., 2025), whose equation is not public: a reconstruction.
    """
    require_one_per_pair(
        instructed_chosen_log_ratios=instructed_chosen_log_ratios,
        instructed_rejected_log_ratios=instructed_rejected_log_ratios,
        chosen_log_ratios=chosen_log_ratios,
        rejected_log_ratios=rejected_log_ratios,
    )
    base_margins = chosen_log_ratios - rejected_log_ratios
    return _ratio_loss(
        instructed_chosen_log_ratios - instructed_rejected_log_ratios,
        base_margins.detach() if detach_base_margin else base_margins,
        beta,
    )


def _ratio_loss(preferred: Tensor, other: Tensor, beta: float) -> PreferenceLoss:
    zeros = torch.zeros_like(preferred)  # the reference is in the log-ratios already
    return dpo_loss(preferred, other, zeros, zeros, beta=beta)
