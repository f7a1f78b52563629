"""The golden numbers of kto."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives.unpaired import kto_loss, kto_reference_point, mismatched_rows
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    policy_logps = t64(case["policy_logps"], requires_grad=True)
    labels = t64(case["labels"])
    z0 = kto_reference_point(
        t64(case["kl_policy_logps"]), t64(case["kl_ref_logps"]), t64(case["kl_valid"])
    )
    result = kto_loss(
        policy_logps,
        t64(case["ref_logps"]),
        labels,
        z0,
        beta=case["beta"],
        desirable_weight=case["desirable_weight"],
        undesirable_weight=case["undesirable_weight"],
    )
    names = case["completion_ids"]
    return {
        "z0": z0,
        "rewards": result.rewards,
        "losses": result.loss,
        "loss": result.loss.mean(),
        "grad_policy_logps": torch.autograd.grad(result.loss.mean(), policy_logps)[0],
        "reward_desirable_mean": _mean(result.rewards[labels > 0]),
        "reward_undesirable_mean": _mean(result.rewards[labels == 0]),
        "mismatch_previous": [names[row] for row in mismatched_rows(len(names))],
        "mismatch_next": [names[row] for row in mismatched_rows(len(names), shift=-1)],
    }


def _mean(values: Tensor) -> Tensor | None:
    return values.mean() if len(values) else None
