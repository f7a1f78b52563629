"""The golden numbers of mcts-dpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import cdpo_loss, masked_sum
from mmalign.selection.tree_pairs import sibling_pair, visit_label_smoothing
from mmalign.selection.trees import StepNode, back_up, puct_score, step_prior
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    siblings = case["siblings"]
    return {
        **_search(case),
        "pair": sibling_pair([step["Q"] for step in siblings], [step["N"] for step in siblings]),
        "cdpo": _loss(case),
    }


def _search(case: Mapping[str, Any]) -> dict[str, Any]:
    tree = case["tree"]
    names = sorted(tree, key=lambda name: tree[name]["parent"] is not None)
    place = {name: index for index, name in enumerate(names)}
    nodes = [
        StepNode(
            parent=None if node["parent"] is None else place[node["parent"]],
            value=node["value"],
            visits=node["N"],
            action_value=node["Q"],
            state_value=node["V"],
        )
        for node in (tree[name] for name in names)
    ]
    steps = {name: node for name, node in tree.items() if node["parent"] is not None}
    priors = {
        name: step_prior(node["action_logps"], length_penalty=case["length_penalty"])
        for name, node in steps.items()
    }
    after = back_up(nodes, place[case["path"][-1]], discount=case["gamma_backup"])
    return {
        "priors": priors,
        "puct": {
            name: puct_score(
                node["Q"],
                priors[name],
                parent_visits=tree[node["parent"]]["N"],
                visits=node["N"],
                exploration=case["w_exp"],
            )
            for name, node in steps.items()
        },
        "after": {
            name: {"Q": node.action_value, "V": node.state_value, "N": node.visits}
            for name, node in zip(names, after, strict=True)
        },
    }


def _loss(case: Mapping[str, Any]) -> dict[str, Any]:
    sides = ("chosen", "rejected")
    policy = {s: t64(case[f"policy_{s}_token_logps"], requires_grad=True) for s in sides}
    masks = {s: t64(case[f"{s}_mask"]) for s in sides}
    logps = {s: masked_sum(policy[s], masks[s]) for s in sides}
    ref = {s: masked_sum(t64(case[f"ref_{s}_token_logps"]), masks[s]) for s in sides}
    alpha = [
        visit_label_smoothing(chosen, rejected)
        for chosen, rejected in zip(case["n_chosen"], case["n_rejected"], strict=True)
    ]

    result = cdpo_loss(
        *(logps[s] for s in sides),
        *(ref[s] for s in sides),
        beta=case["beta"],
        label_smoothing=t64(alpha),
    )
    loss = result.loss.mean()
    grads = torch.autograd.grad(loss, [policy[s] for s in sides], retain_graph=True)
    return {
        "alpha": alpha,
        "h": (logps["chosen"] - ref["chosen"]) - (logps["rejected"] - ref["rejected"]),
        "losses": result.loss,
        "loss": loss,
        "grad_policy_chosen_token_logps": grads[0],
        "grad_policy_rejected_token_logps": grads[1],
        "reward_accuracy": (result.chosen_rewards > result.rejected_rewards).double().mean(),
    }
