"""The golden numbers of full-step-dpo."""

from collections.abc import Mapping
from typing import Any, Literal

import torch

from mmalign.objectives.stepwise import (
    full_step_dpo_loss,
    prefix_labels,
    process_reward_loss,
    step_weights,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    labels = prefix_labels(t64(case["rollout_correct"]))
    logits = torch.logit(t64(case["prm_predictions"]))
    return {
        "plain": _weighted(case, rescale=False),
        "rescaled": _weighted(case, rescale=True),
        "prm_soft_labels": labels.soft,
        "prm_hard_labels": labels.hard,
        "prm_bce": process_reward_loss(logits, labels.soft, kind="bce").mean(),
        "prm_mse": process_reward_loss(logits, labels.soft, kind="mse").mean(),
    }


def _weighted(case: Mapping[str, Any], *, rescale: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    readings: dict[Literal["margin", "gradient"], str] = {
        "margin": "loss_margin",
        "gradient": "surrogate_gradient",
    }
    for reading, name in readings.items():
        policy = {
            side: t64(case[f"policy_{side}_token_logps"], requires_grad=True)
            for side in ("chosen", "rejected")
        }
        result = full_step_dpo_loss(
            policy["chosen"],
            policy["rejected"],
            t64(case["ref_chosen_token_logps"]),
            t64(case["ref_rejected_token_logps"]),
            torch.tensor(case["chosen_step_ids"]),
            torch.tensor(case["rejected_step_ids"]),
            t64(case["chosen_step_rewards"]),
            t64(case["rejected_step_rewards"]),
            beta=case["beta"],
            gamma=case["gamma"],
            rescale=rescale,
            reading=reading,
        )
        grads = torch.autograd.grad(result.loss.mean(), list(policy.values()))
        found[name] = result.loss.mean()
        found[f"grad_{reading}_chosen"], found[f"grad_{reading}_rejected"] = grads
        found |= result.metrics
    for side, gamma in (("chosen", case["gamma"]), ("rejected", -case["gamma"])):
        found[f"{side}_step_weights"] = step_weights(
            t64(case[f"{side}_step_rewards"]),
            torch.tensor(case[f"{side}_step_ids"]),
            gamma=gamma,
            rescale=rescale,
        )
    return found
