"""The golden numbers of apo-accelerated."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.iterations import accelerated_policies
from mmalign.objectives import dpo_loss
from mmalign.objectives.extrapolation import extrapolated_weights, reward_margin_ipo_loss
from mmalign.selection.tournament import best_and_worst
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    policies = accelerated_policies(
        t64(case["ref_logprobs"]), t64(case["step_rewards"]), alpha=case["alpha"], beta=case["beta"]
    )
    policy_chosen = t64(case["policy_chosen_logps"], requires_grad=True)
    logps = (
        policy_chosen,
        t64(case["policy_rejected_logps"]),
        t64(case["ref_chosen_logps"]),
        t64(case["ref_rejected_logps"]),
    )
    dpo = dpo_loss(*logps, beta=case["loss_beta"]).loss.mean()
    ipo = reward_margin_ipo_loss(*logps, beta=case["loss_beta"], tau=case["ipo_tau"])
    weights = extrapolated_weights(
        {"theta": t64(case["theta_hat_new"])},
        {"theta": t64(case["theta_hat_prev"])},
        alpha=case["alpha"],
    )
    pair = best_and_worst(case["pairwise_scores"])
    return {
        "hat_logprobs": policies.trained,
        "pi_logprobs": policies.extrapolated,
        "output_logprobs": policies.trained[-1],
        "dpo_loss_vs_pi_t": dpo,
        "grad_policy_chosen_logps": torch.autograd.grad(dpo, policy_chosen)[0],
        "ipo_loss_vs_pi_t": ipo.loss.mean(),
        "theta_extrapolated": weights["theta"],
        "chosen_index": pair.best,
        "rejected_index": pair.worst,
    }
