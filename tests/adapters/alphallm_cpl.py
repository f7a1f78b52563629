"""The golden numbers of alphallm-cpl."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives import dpo_loss
from mmalign.selection.curriculum import curriculum_order, prediction_gap
from mmalign.selection.tree_pairs import complete_pairs, step_pairs
from mmalign.selection.trees import StepNode, path_to
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    nodes = [
        StepNode(
            parent=None if node["parent"] < 0 else node["parent"],
            value=node["value"],
            outcome=node["reward"] if node["terminal"] else None,
        )
        for node in case["nodes"]
    ]
    pairs = step_pairs(nodes, gap_threshold=case["tau"], min_visits=0)
    pairs += complete_pairs(nodes, gap_threshold=case["tau_complete"])
    policy = [t64(node["policy_token_logps"], requires_grad=True) for node in case["nodes"]]
    ref = [t64(node["ref_token_logps"]) for node in case["nodes"]]
    chosen, rejected = ([getattr(pair, side) for pair in pairs] for side in ("chosen", "rejected"))

    def tokens(model: list[Tensor], place: int) -> Tensor:
        return torch.cat([model[step] for step in path_to(nodes, place)])

    def logps(model: list[Tensor], places: list[int]) -> Tensor:
        return torch.stack([tokens(model, place).sum() for place in places])

    reward_gaps = [pair.gap for pair in pairs]
    prediction_gaps = [
        prediction_gap(tokens(policy, pair.chosen).tolist(), tokens(policy, pair.rejected).tolist())
        for pair in pairs
    ]
    curriculum = curriculum_order(reward_gaps, prediction_gaps, balance=case["alpha"])
    result = dpo_loss(
        logps(policy, chosen),
        logps(policy, rejected),
        logps(ref, chosen),
        logps(ref, rejected),
        beta=case["beta"],
    )
    loss = result.loss.mean()
    grads = torch.autograd.grad(loss, policy, allow_unused=True, materialize_grads=True)
    return {
        "pairs": [pair[:3] for pair in pairs],
        "reward_gap": reward_gaps,
        "prediction_gap": prediction_gaps,
        "score": curriculum.scores,
        "order": curriculum.order,
        "logits": result.chosen_rewards - result.rejected_rewards,
        "losses": result.loss,
        "loss": loss,
        "grad_policy_logp_per_node": [float(grad[0]) if len(grad) else 0.0 for grad in grads],
    }
