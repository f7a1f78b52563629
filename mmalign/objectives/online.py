"""Losses of DPO plus a term on answers beside the pairs: HyPO's online KL, VPO's calibration."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.configs import BetaConfig, NotNegative
from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.sums import require_one_per_pair, require_positive, require_same_shape
from mmalign.objectives.terms import PreferenceLoss

__all__ = [
    "OfflineVPOConfig",
    "OnlineKL",
    "leave_one_out_means",
    "offline_vpo_loss",
    "online_kl_loss",
    "vpo_calibration_loss",
]


class OnlineKL(NamedTuple):
    """What the policy's own samples say about its distance from the reference."""

    loss: Tensor
    """[B, K], to be minimised: its gradient is that of the KL, its value means nothing."""
    kl: Tensor
    """[B, K], nats, log-ratio of each sample, detached; its mean estimates the KL."""
    penalty: Tensor
    """[B, K], kl_weight * kl, detached: what to log as part of the objective's value."""
    clipped: Tensor
    """[B, K], true where the coefficient was cut; the share of it should stay near 0."""


def online_kl_loss(
    policy_logps: Tensor,
    ref_logps: Tensor,
    *,
    kl_weight: float,
    baseline: Literal["leave_one_out", "none"] = "leave_one_out",
    coefficient_clip: float | None = None,
) -> OnlineKL:
    """The reverse KL's gradient, estimated from samples that the policy has just drawn.

        d           = policy_logps - ref_logps
        coefficient = d - mean of d over the other samples of the prompt
        loss        = kl_weight * stop_gradient(coefficient) * policy_logps

    HyPO's loss is the mean of `dpo_loss` over offline pairs plus the mean of this over all
    samples. The gradient of the mean of d itself would be 0 in expectation, whatever the policy.

    Args:
        policy_logps: [B, K], nats, summed over the tokens of K samples of each of B prompts,
            drawn at temperature 1 without top-p or top-k; carries gradient.
        ref_logps: [B, K], the same under the frozen reference; carries no gradient.
        kl_weight: lambda in the paper, >= 0.
        baseline: `leave_one_out`, which is no baseline where K is 1, or `none`.
        coefficient_clip: Bound on the absolute coefficient (reconstruction). It biases the
            gradient, and the coefficients of a prompt no longer sum to 0.

    Returns:
        Loss, KL and logged penalty of each sample [B, K]. The estimate may be negative.

    Raises:
        ShapeError: The tensors are not [B, K] and alike, or a setting is out of range.

    Source: HyPO (Song et al., 2024), the gradient of its online term with RLOO's baseline.
    """
    _require_not_negative(kl_weight=kl_weight)
    require_same_shape(policy_logps=policy_logps, ref_logps=ref_logps)
    if policy_logps.ndim != 2 or policy_logps.shape[1] < 1:
        raise ShapeError(
            f"policy_logps is {list(policy_logps.shape)}, expected [B, K] with one sample or more"
        )
    kl = (policy_logps - ref_logps).detach()
    coefficients = kl - leave_one_out_means(kl) if baseline == "leave_one_out" else kl
    clipped = torch.zeros_like(kl, dtype=torch.bool)
    if coefficient_clip is not None:
        require_positive(coefficient_clip=coefficient_clip)
        clipped = coefficients.abs() > coefficient_clip
        coefficients = coefficients.clamp(-coefficient_clip, coefficient_clip)
    return OnlineKL(
        loss=kl_weight * coefficients * policy_logps,
        kl=kl,
        penalty=kl_weight * kl,
        clipped=clipped,
    )


def leave_one_out_means(values: Tensor) -> Tensor:
    """For each sample of a group, the mean over the others.

    Args:
        values: [..., K], the group along the last axis.

    Returns:
        [..., K]; 0 where the group has one sample only, so that nothing is subtracted.
    """
    num_others = max(values.shape[-1] - 1, 1)
    return (values.sum(-1, keepdim=True) - values) / num_others


def vpo_calibration_loss(
    policy_cal_logps: Tensor,
    ref_cal_logps: Tensor,
    *,
    beta: float,
    alpha: float,
    mode: Literal["online", "offline"],
) -> Tensor:
    """VPO's bias of the reward by its own optimal value, on answers of a calibration policy.

        online  =  alpha * beta * (policy_cal_logps - ref_cal_logps)
        offline = -alpha * beta * (policy_cal_logps - ref_cal_logps)

    VPO's loss is the mean of `dpo_loss` over pairs plus the mean of this over calibration
    answers. Online it lowers the likelihood of these answers, which is optimism, and has no
    lower bound; offline it raises it, which is pessimism.

    Args:
        policy_cal_logps: [M], nats, summed over response tokens; carries gradient. Answers of
            the fixed calibration policy to the prompts of the batch.
        ref_cal_logps: [M], the same under the frozen reference; carries no gradient.
        beta: Inverse temperature of the DPO part, > 0.
        alpha: Weight of the bias, >= 0; 0 is DPO. As both parts are means, it is the paper's
            alpha over the number of pairs.
        mode: Which sign.

    Returns:
        [M], to be averaged over M; 0 where policy equals reference.

    Raises:
        ShapeError: The tensors are not [M] and alike, or a setting is out of range.

    Source: VPO (Cen et al., 2024).
    """
    require_positive(beta=beta)
    _require_not_negative(alpha=alpha)
    require_one_per_pair(policy_cal_logps=policy_cal_logps, ref_cal_logps=ref_cal_logps)
    if mode not in ("online", "offline"):
        raise ShapeError(f"mode is {mode!r}, expected 'online' or 'offline'")
    sign = 1.0 if mode == "online" else -1.0
    return sign * alpha * beta * (policy_cal_logps - ref_cal_logps.detach())


class OfflineVPOConfig(BetaConfig):
    """Settings of vpo_offline."""

    alpha: NotNegative = 0.1
    """Weight of the pull towards the chosen responses; a reconstruction, swept from 0.1 to 1."""


def offline_vpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float,
    alpha: float,
) -> PreferenceLoss:
    """Offline VPO with the chosen responses as calibration answers.

        loss = dpo_loss - alpha * beta * (policy_chosen_logps - ref_chosen_logps)

    Its gradient is that of DPO with the chosen response's summed NLL, weighted alpha * beta.

    Args:
        policy_chosen_logps: [B], nats, summed over response tokens; carries gradient.
        policy_rejected_logps: [B], the same for the rejected response.
        ref_chosen_logps: [B], nats, from the frozen reference; carries no gradient.
        ref_rejected_logps: [B], the same for the rejected response.
        beta: Inverse temperature, > 0.
        alpha: Weight of the pessimism, >= 0; 0 is DPO.

    Returns:
        Loss per pair [B], log 2 where policy equals reference; both rewards; metric `dpo_loss`.

    Raises:
        ShapeError: The tensors are not [B] with the same B, or a setting is out of range.

    Source: VPO (Cen et al., 2024); that the chosen responses calibrate is a reconstruction.
    """
    dpo = dpo_loss(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta
    )
    bias = vpo_calibration_loss(
        policy_chosen_logps, ref_chosen_logps, beta=beta, alpha=alpha, mode="offline"
    )
    return dpo._replace(loss=dpo.loss + bias, metrics={"dpo_loss": dpo.loss.detach()})


def _require_not_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ShapeError(f"{name} is {number}, expected a finite number of 0 or more")
