"""The golden numbers of sdpo."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives import dpo_loss
from mmalign.objectives.schedule import (
    closed_form_margins,
    easy_to_hard_order,
    mean_margin,
    reward_accuracy,
    stepwise_schedule,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    accuracies = [
        reward_accuracy(source["m0_chosen_logps"], source["m0_rejected_logps"])
        for source in case["sources"]
    ]
    order = easy_to_hard_order(accuracies)
    chosen, rejected = case["model_chosen_logps"], case["model_rejected_logps"]
    steps = range(1, len(chosen))
    losses: list[Tensor] = []
    grads: list[Tensor] = []
    first_losses: list[Tensor] = []
    for t in steps:
        ref = t64(chosen[t - 1]), t64(rejected[t - 1])
        policy_chosen = t64(chosen[t], requires_grad=True)
        losses.append(
            dpo_loss(policy_chosen, t64(rejected[t]), *ref, beta=case["beta"]).loss.mean()
        )
        grads += torch.autograd.grad(losses[-1], policy_chosen)
        first_losses.append(dpo_loss(*ref, *ref, beta=case["beta"]).loss.mean())
    return {
        "reward_accuracy": accuracies,
        "order": order,
        "schedule": [step._asdict() for step in stepwise_schedule(order)],
        "step_loss": losses,
        "step_grad_policy_chosen_logps": grads,
        "mean_gamma_ref": [mean_margin(chosen[t - 1], rejected[t - 1]) for t in steps],
        "initial_loss_each_step": first_losses,
        "closed_form_gamma": closed_form_margins(
            case["gamma0"], case["alpha_per_step"], beta=case["beta"]
        ),
    }
