"""The golden numbers of three-d-properties."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.three_d import dispersion, dpo_gradient_ratios, probability_gradients
from mmalign.objectives import dpo_loss, ipo_loss, slic_loss
from mmalign.objectives.flex_dpo import flex_dpo_loss
from mmalign.objectives.regularised import rpo_sft_regularised_loss
from mmalign.testing.golden import t64

LOGPS = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    chosen, rejected = (t64(case[name], requires_grad=True) for name in LOGPS[:2])
    logps = (chosen, rejected, *(t64(case[name]) for name in LOGPS[2:]))
    one = torch.ones(len(chosen), 1)  # each response as a single token
    beta = case["beta"]
    losses = {
        "dpo": dpo_loss(*logps, beta=beta).loss,
        "flex": flex_dpo_loss(
            *logps, beta_chosen=case["beta_plus"], beta_rejected=case["beta_minus"]
        ).loss,
        "sft": rpo_sft_regularised_loss(
            logps[0].unsqueeze(-1),
            logps[1].unsqueeze(-1),
            logps[2].unsqueeze(-1),
            logps[3].unsqueeze(-1),
            one,
            one,
            t64(1.0),
            beta=beta,
            sft_weight=case["sft_gamma"],
            sft_form="average",
        ).loss,
        "ipo": ipo_loss(*logps, beta=case["ipo_eta"]).loss,
        "slic": slic_loss(
            chosen, rejected, delta=case["slic_delta"], sft_weight=case["slic_eta"]
        ).loss,
    }
    grads = {
        name: torch.autograd.grad(loss.sum(), (chosen, rejected)) for name, loss in losses.items()
    }
    ratios = dpo_gradient_ratios(case["policy_chosen_logps"], case["policy_rejected_logps"])
    toy = dispersion(case["toy_initial_probs"], case["toy_final_probs"], case["toy_roles"])
    found: dict[str, Any] = {
        "per_example": losses,
        "loss": {name: loss.mean() for name, loss in losses.items()},
        "dpo_grad_ratio": ratios.ratios,
        "log_abs_grad_ratio": ratios.log_abs,
        "toy_mean_change": toy.mean_change._asdict(),
        "toy_unseen_mass": toy.unseen_mass,
    }
    for number, side in enumerate(("chosen", "rejected")):
        found[f"grad_policy_{side}_logps"] = {
            name: pair[number] / len(chosen) for name, pair in grads.items()
        }
        found[f"prob_grad_{side}"] = {
            name: probability_gradients(pair[number].numpy(), case[f"policy_{side}_logps"])
            for name, pair in grads.items()
        }
    return found
