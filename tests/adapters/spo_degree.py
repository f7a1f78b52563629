"""The golden numbers of spo-degree."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import dpo_loss
from mmalign.objectives.degree import degree_loss, spo_degree_loss
from mmalign.selection.degrees import removed_phrases
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    head_weight, head_bias = t64(case["head_weight"], requires_grad=True), t64(case["head_bias"])
    features = {
        side: t64(case[f"{side}_features"], requires_grad=True) for side in ("chosen", "rejected")
    }
    degrees = torch.arange(case["num_degrees"] + 1).expand(len(features["chosen"]), -1)
    chosen, rejected = (
        degree_loss(values, degrees, head_weight, head_bias) for values in features.values()
    )
    names = [f"{model}_{side}_logps" for model in ("policy", "ref") for side in features]
    preference = dpo_loss(*(t64(case[name]) for name in names), beta=case["beta"])
    result = spo_degree_loss(preference, chosen, rejected, degree_weight=case["gamma"])
    grads = torch.autograd.grad(result.loss.mean(), (head_weight, features["chosen"]))
    return {
        "removed_phrase_indices": removed_phrases(
            case["phrase_scores"], num_degrees=case["num_degrees"]
        ),
        "preference_loss": result.metrics["preference_loss"].mean(),
        "degree_loss_chosen": result.metrics["degree_loss_chosen"].mean(),
        "degree_loss_rejected": result.metrics["degree_loss_rejected"].mean(),
        "loss": result.loss.mean(),
        "degree_accuracy_chosen": chosen.correct.double().mean(),
        "grad_head_weight": grads[0],
        "grad_chosen_features": grads[1],
    }
