"""The golden numbers of vpg."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import dpo_loss
from mmalign.selection.graph_edits import (
    DeleteEdge,
    DeleteNode,
    Edge,
    Edit,
    Graph,
    RedirectEdge,
    RelabelEdge,
    RelabelNode,
    apply_edits,
    canonical_text,
    edit_distance,
    nearest,
)
from mmalign.testing.golden import t64

EDITS: dict[str, type[Edit]] = {
    "delete_edge": DeleteEdge,
    "delete_node": DeleteNode,
    "substitute_node": RelabelNode,
    "substitute_edge": RelabelEdge,
    "redirect_edge": RedirectEdge,
}


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    graph = Graph(case["graph"]["nodes"], tuple(Edge(*edge) for edge in case["graph"]["edges"]))
    edited = apply_edits(graph, [EDITS[name](*arguments) for name, *arguments in case["edits"]])
    neighbours = nearest(case["query_vec"], case["train_vecs"], num_nearest=case["k"])
    return {
        "chosen_text": canonical_text(graph),
        "rejected_text": canonical_text(edited),
        "rejected_graph": {"nodes": edited.nodes, "edges": edited.edges},
        "edit_distance": edit_distance(graph, edited),
        "exact_match": canonical_text(graph) == canonical_text(edited),
        "similarity": neighbours.similarities,
        "retrieved": neighbours.nearest,
        "dpo": _dpo(case),
    }


def _dpo(case: Mapping[str, Any]) -> dict[str, Any]:
    policy = [
        t64(case[f"policy_{side}_logps"], requires_grad=True) for side in ("chosen", "rejected")
    ]
    ref = [t64(case["ref_chosen_logps"]), t64(case["ref_rejected_logps"])]
    result = dpo_loss(*policy, *ref, beta=case["beta"])
    loss = result.loss.mean()
    grads = torch.autograd.grad(loss, policy, retain_graph=True)
    return {
        "loss": loss,
        "losses": result.loss,
        "grad_policy_chosen_logps": grads[0],
        "grad_policy_rejected_logps": grads[1],
        "reward_accuracy": (result.chosen_rewards > result.rejected_rewards).double().mean(),
    }
