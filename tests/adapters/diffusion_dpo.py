"""The golden numbers of diffusion-dpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.diffusion.pairs import (
    denoising_errors,
    diffusion_dpo_loss,
    implicit_accuracy,
    order_by_label,
)
from mmalign.objectives.diffusion.schedule import (
    add_noise,
    denoising_target,
    scaled_linear_schedule,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    sides = ("w", "l")
    alpha_bars = scaled_linear_schedule()[case["timesteps"]]
    noise = t64(case["noise"])
    clean = {side: t64(case[f"x0_{side}"]) for side in sides}
    targets = {
        side: denoising_target(
            clean[side], noise, alpha_bars, prediction_type=case["prediction_type"]
        )
        for side in sides
    }
    policy = {side: t64(case[f"policy_pred_{side}"], requires_grad=True) for side in sides}
    policy_errors = {side: denoising_errors(policy[side], targets[side]) for side in sides}
    ref_errors = {
        side: denoising_errors(t64(case[f"ref_pred_{side}"]), targets[side]) for side in sides
    }
    result = diffusion_dpo_loss(
        *policy_errors.values(),
        *ref_errors.values(),
        beta=case["beta"],
        scale_convention=case["scale_convention"],
    )
    grads = torch.autograd.grad(result.loss.mean(), [policy[side] for side in sides])
    rewards = (result.chosen_rewards, result.rejected_rewards)
    ordered = order_by_label(case["label_0"]).pairs
    return {
        **{f"x_t_{side}": add_noise(clean[side], noise, alpha_bars) for side in sides},
        **{f"target_{side}": targets[side] for side in sides},
        **{f"policy_err_{side}": policy_errors[side] for side in sides},
        **{f"ref_err_{side}": ref_errors[side] for side in sides},
        "z": result.chosen_rewards - result.rejected_rewards,
        "per_sample_loss": result.loss,
        "loss": result.loss.mean(),
        "grad_policy_w": grads[0],
        "grad_policy_l": grads[1],
        "implicit_acc": implicit_accuracy(*rewards),
        "implicit_acc_half_ties": implicit_accuracy(*rewards, ties="half"),
        "kept": [pair.row for pair in ordered],
        "order": [[pair.chosen, pair.rejected] for pair in ordered],
    }
