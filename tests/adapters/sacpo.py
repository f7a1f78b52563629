"""The golden numbers of sacpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.tabular import tilted_policy
from mmalign.objectives import dpo_loss, ipo_loss
from mmalign.objectives.schedule import merged_parameters, step_beta
from mmalign.objectives.unpaired import (
    balancing_undesirable_weight,
    kto_loss,
    kto_reference_point,
)
from mmalign.selection.two_metrics import AnswerLabels, two_metric_pairs
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    beta2 = step_beta(case["beta"], multiplier=case["lam"])
    pairs = two_metric_pairs([AnswerLabels(**record) for record in case["records"]])
    merged = merged_parameters(
        {"theta": t64(case["theta_r"])},
        {"theta": t64(case["theta_safe"])},
        weight_helpful=case["q"],
    )
    return {
        **_tables(case, beta2),
        **_losses(case, beta2),
        "merged": merged["theta"],
        "beta2": beta2,
        "helpful_pairs": pairs.helpful,
        "safety_pairs": pairs.safety,
        "kto_undesirable_weight_from_labels": balancing_undesirable_weight(pairs.safe_flags),
    }


def _tables(case: Mapping[str, Any], beta2: float) -> dict[str, Any]:
    ref, reward, safety = t64(case["ref_probs"]).log(), t64(case["reward"]), t64(case["safety"])
    first = tilted_policy(ref, reward, beta=case["beta"])
    at_once = tilted_policy(ref, reward + case["lam"] * safety, beta=case["beta"])
    return {
        "pi_r": first.exp(),
        "pi_star": at_once.exp(),
        "pi_two": tilted_policy(first, safety, beta=beta2).exp(),
    }


def _losses(case: Mapping[str, Any], beta2: float) -> dict[str, Any]:
    policy = [t64(case[f"policy_{s}_logps"], requires_grad=True) for s in ("chosen", "rejected")]
    ref = [t64(case[f"ref_{s}_logps"]) for s in ("chosen", "rejected")]
    dpo = dpo_loss(*policy, *ref, beta=beta2)
    kto = kto_loss(
        torch.cat(policy),
        torch.cat(ref),
        torch.cat([torch.ones_like(ref[0]), torch.zeros_like(ref[1])]),
        kto_reference_point(t64([case["kl"]]), t64([0.0])),
        beta=beta2,
        desirable_weight=case["desirable_weight"],
        undesirable_weight=case["undesirable_weight"],
    )
    losses = {"dpo": dpo.loss, "ipo": ipo_loss(*policy, *ref, beta=beta2).loss, "kto": kto.loss}
    grads = {
        name: torch.autograd.grad(loss.mean(), policy, retain_graph=True)
        for name, loss in losses.items()
    }
    return {
        **{f"{name}_losses": loss for name, loss in losses.items()},
        **{f"{name}_loss": loss.mean() for name, loss in losses.items()},
        **{f"{name}_grad_chosen": grad[0] for name, grad in grads.items()},
        **{f"{name}_grad_rejected": grad[1] for name, grad in grads.items()},
        "chosen_rewards": dpo.chosen_rewards,
        "rejected_rewards": dpo.rejected_rewards,
    }
