"""The golden numbers of rdpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import cdpo_loss, dpo_loss
from mmalign.objectives.pairwise import log_ratio_rewards
from mmalign.objectives.robust import flipped_pairs, gradient_weights, robust_dpo_loss
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    beta, flip_rate = case["beta"], case["epsilon"]
    chosen = t64(case["policy_chosen_logps"], requires_grad=True)
    rejected = t64(case["policy_rejected_logps"], requires_grad=True)
    logps = chosen, rejected, t64(case["ref_chosen_logps"]), t64(case["ref_rejected_logps"])
    result = robust_dpo_loss(*logps, beta=beta, flip_rate=flip_rate)
    cdpo = cdpo_loss(*logps, beta=beta, label_smoothing=flip_rate)
    log_ratios = log_ratio_rewards(*logps, 1.0)
    grads = torch.autograd.grad(result.loss.mean(), (chosen, rejected))
    return {
        "margin_h": log_ratios[0] - log_ratios[1],
        "per_example": result.loss,
        "loss": result.loss.mean(),
        "gradient_weight": result.metrics["gradient_weight"],
        "grad_policy_chosen_logps": grads[0],
        "grad_policy_rejected_logps": grads[1],
        "dpo_loss": dpo_loss(*logps, beta=beta).loss.mean(),
        "cdpo_loss": cdpo.loss.mean(),
        "cdpo_gradient_weight": gradient_weights(
            cdpo.chosen_rewards - cdpo.rejected_rewards, label_smoothing=flip_rate
        ),
        "flipped": flipped_pairs(case["flip_draws"], flip_rate=flip_rate),
    }
