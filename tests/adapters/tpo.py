"""The golden numbers of tpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.listwise import (
    ListLoss,
    aligned_step_count,
    judge_values,
    rank_gap_weights,
    ranks_in_order,
    tpo_tree_loss,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    values = t64([judge_values(scores) for scores in case["scores"]])
    embeddings = t64(case["step_embeddings"])
    variants: dict[str, dict[str, Any]] = {
        "tpo": {"step_embeddings": embeddings},
        "no_adaptive": {},
        "no_lambda": {"step_embeddings": embeddings, "weigh_ranks": False},
    }
    results: dict[str, ListLoss] = {}
    outputs: dict[str, Any] = {}
    for name, options in variants.items():
        policy = t64(case["policy_step_logps"], requires_grad=True)
        result = tpo_tree_loss(
            policy, t64(case["ref_step_logps"]), values, beta=case["beta"], **options
        )
        results[name] = result
        outputs[name] = {
            "margins": result.margins,
            "per_example": result.loss,
            "loss": result.loss.mean(),
            "grad_policy_step_logps": torch.autograd.grad(result.loss.mean(), policy)[0],
        }
    rewards = results["tpo"].rewards
    return {
        "values": values,
        "implicit_rewards": rewards,
        "rank": ranks_in_order(rewards).double(),
        "lambda": rank_gap_weights(values, rewards),
        "aligned_step_count": [aligned_step_count(counts) for counts in case["raw_step_counts"]],
        **outputs,
    }
