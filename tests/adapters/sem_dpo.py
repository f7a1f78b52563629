"""The golden numbers of sem-dpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import dpo_loss
from mmalign.objectives.semantic import sem_dpo_loss, semantic_distances, semantic_weights
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    policy = [
        t64(case[f"policy_{side}_logps"], requires_grad=True) for side in ("chosen", "rejected")
    ]
    logps = [*policy, t64(case["ref_chosen_logps"]), t64(case["ref_rejected_logps"])]
    distances = semantic_distances(t64(case["prompt_embeddings"]), t64(case["chosen_embeddings"]))
    weights = semantic_weights(distances, alpha=case["alpha"])
    result = sem_dpo_loss(*[*logps, weights], beta=case["beta"])
    at_beta_1 = dpo_loss(*logps, beta=1.0)
    grads = torch.autograd.grad(result.loss.mean(), policy)
    return {
        "distance": distances,
        "weights": weights,
        "margin_h": at_beta_1.chosen_rewards - at_beta_1.rejected_rewards,
        "per_example": result.loss,
        "loss": result.loss.mean(),
        "dpo_loss": dpo_loss(*logps, beta=case["beta"]).loss.mean(),
        "grad_policy_chosen_logps": grads[0],
        "grad_policy_rejected_logps": grads[1],
    }
