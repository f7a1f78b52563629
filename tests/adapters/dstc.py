"""The golden numbers of dstc."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmalign.objectives import dpo_loss
from mmalign.objectives.unpaired import kto_loss, kto_reference_point
from mmalign.selection.minimax import minimax_pair
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "selection": [_selection(results) for results in case["results"]],
        "dpo": _dpo(case),
        "kto": _kto(case),
    }


def _selection(results: Sequence[Sequence[int]]) -> dict[str, Any]:
    choice = minimax_pair(results)
    same = {"same_code": choice.same_code, "same_test": choice.same_test}
    found = choice._asdict() | (same if choice.status == "ok" else {})
    return {name: value for name, value in found.items() if name != "ties"}


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
        "accuracy": (result.chosen_rewards > result.rejected_rewards).double().mean(),
    }


def _kto(case: Mapping[str, Any]) -> dict[str, Any]:
    sides = ("chosen", "rejected")
    policy = [t64(case[f"policy_{side}_logps"], requires_grad=True) for side in sides]
    ref = torch.cat([t64(case[f"ref_{side}_logps"]) for side in sides])
    reference_point = kto_reference_point(t64(case["kl_policy_logps"]), t64(case["kl_ref_logps"]))
    num_pairs = len(policy[0])
    result = kto_loss(
        torch.cat(policy),
        ref,
        torch.arange(2 * num_pairs) < num_pairs,
        reference_point,
        beta=case["beta"],
        desirable_weight=case["desirable_weight"],
        undesirable_weight=case["undesirable_weight"],
    )
    loss = result.loss.mean()
    grads = torch.autograd.grad(loss, policy, retain_graph=True)
    return {
        "z0": reference_point,
        "loss": loss,
        "desirable_losses": result.loss[:num_pairs],
        "undesirable_losses": result.loss[num_pairs:],
        "grad_policy_chosen_logps": grads[0],
        "grad_policy_rejected_logps": grads[1],
    }
