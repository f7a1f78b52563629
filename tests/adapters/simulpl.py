"""The golden numbers of simulpl."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.simulpl import (
    WriteDecisions,
    average_lagging,
    latency_gap,
    read_schedule,
    simulpl_loss,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    lagging = {
        side: [
            average_lagging(schedule, source_words=words)
            for schedule, words in zip(case[f"g_{side}"], case["src_len"], strict=True)
        ]
        for side in ("chosen", "rejected")
    }
    gaps = [
        latency_gap(chosen, rejected, source_words=words)
        for chosen, rejected, words in zip(
            case["g_chosen"], case["g_rejected"], case["src_len"], strict=True
        )
    ]
    chosen_logps = t64(case["policy_chosen_logps"], requires_grad=True)
    rejected_logps = t64(case["policy_rejected_logps"], requires_grad=True)
    logits, mask = t64(case["write_logits"], requires_grad=True), t64(case["action_mask"])
    result = simulpl_loss(
        chosen_logps,
        rejected_logps,
        t64(case["ref_chosen_logps"]),
        t64(case["ref_rejected_logps"]),
        t64(gaps),
        WriteDecisions(logits, t64(case["actions"]), mask, mask.sum() / len(mask)),
        beta=case["beta"],
        latency_weight=case["lam"],
        write_weight=case["mu"],
    )
    grads = torch.autograd.grad(result.loss.mean(), (chosen_logps, rejected_logps, logits))
    schedule = read_schedule(
        case["sim_probs"], threshold=case["threshold"], source_words=case["sim_src"]
    )
    return {
        "al_chosen": lagging["chosen"],
        "al_rejected": lagging["rejected"],
        "h": result.metrics["margin"],
        "pref_loss": result.metrics["preference_loss"].mean(),
        "policy_ce": result.metrics["write_loss"].mean(),
        "loss": result.loss.mean(),
        "grad_policy_chosen_logps": grads[0],
        "grad_policy_rejected_logps": grads[1],
        "grad_write_logits": grads[2],
        "simulated_g": schedule,
        "simulated_al": average_lagging(schedule, source_words=case["sim_src"]),
    }
