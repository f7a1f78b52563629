"""The golden numbers of sparsepo."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives.kl import kl_of_logprobs
from mmalign.objectives.sparse import (
    activation_mask,
    learned_mask,
    mask_sparsity,
    sparsepo_loss,
)
from mmalign.testing.golden import t64

SIDES = ("chosen", "rejected")


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    activations, u_masks, d_masks, ones = (
        {side: masks(case, side) for side in SIDES} for masks in (_mapo, _u, _d, _ones)
    )
    l1 = {"reward_l1": case["l1_u"], "kl_l1": case["l1_d"]}
    return {
        "mapo": _variant(case, activations, activations),
        "sparse_common": _variant(case, u_masks, u_masks, shared_weights=True, **l1),
        "sparse_indp": _variant(case, u_masks, d_masks, **l1),
        "ones": _variant(case, ones, ones),
    }


def _mapo(case: Mapping[str, Any], side: str) -> Tensor:
    groups = t64(case[f"{side}_ref_activations"]).unbind(2)
    return activation_mask([[group] for group in groups], t64(case[f"{side}_mask"]))


def _u(case: Mapping[str, Any], side: str) -> Tensor:
    return _learned(case, side, "u")


def _d(case: Mapping[str, Any], side: str) -> Tensor:
    return _learned(case, side, "d")


def _learned(case: Mapping[str, Any], side: str, network: str) -> Tensor:
    parameters = ("ln_weight", "ln_bias", *(f"{n}_{network}" for n in _NETWORK))
    return learned_mask(
        t64(case[f"{side}_ref_hidden"]),
        *(t64(case[name]) for name in parameters),
        eps=case["ln_eps"],
    )


_NETWORK = ("layer_w", "layer_b", "mixer")


def _ones(case: Mapping[str, Any], side: str) -> Tensor:
    return torch.ones_like(t64(case[f"{side}_mask"]))


def _variant(
    case: Mapping[str, Any],
    reward_masks: Mapping[str, Tensor],
    kl_masks: Mapping[str, Tensor],
    **settings: Any,
) -> dict[str, Any]:
    policy = {side: t64(case[f"policy_{side}_logprobs"], requires_grad=True) for side in SIDES}
    ref = {side: t64(case[f"ref_{side}_logprobs"]) for side in SIDES}
    tokens = {side: torch.tensor(case[f"{side}_tokens"]).unsqueeze(-1) for side in SIDES}
    reward_leaf = reward_masks["chosen"].detach().clone().requires_grad_()
    kl_leaf = kl_masks["chosen"].detach().clone().requires_grad_()
    terms: dict[str, Any] = {}
    for side in SIDES:
        terms |= {
            f"policy_{side}_token_logps": policy[side].gather(-1, tokens[side]).squeeze(-1),
            f"ref_{side}_token_logps": ref[side].gather(-1, tokens[side]).squeeze(-1),
            f"{side}_token_kl": kl_of_logprobs(policy[side], ref[side]),
            f"{side}_mask": t64(case[f"{side}_mask"]),
        }
    result = sparsepo_loss(
        chosen_reward_weights=reward_leaf,
        rejected_reward_weights=reward_masks["rejected"],
        chosen_kl_weights=kl_leaf,
        rejected_kl_weights=kl_masks["rejected"],
        beta=case["beta"],
        **terms,
        **settings,
    )
    leaves = [*policy.values(), reward_leaf, kl_leaf]
    grads = torch.autograd.grad(result.loss.mean(), leaves)
    return {
        "reward_mask_chosen": reward_masks["chosen"],
        "reward_mask_rejected": reward_masks["rejected"],
        "kl_mask_chosen": kl_masks["chosen"],
        "kl_mask_rejected": kl_masks["rejected"],
        "u": result.metrics["reward_margin"],
        "d": result.metrics["kl_gap"],
        "weighted_kl_chosen": result.metrics["chosen_kl"],
        "weighted_kl_rejected": result.metrics["rejected_kl"],
        "per_example": result.loss,
        "loss": result.loss.mean(),
        "chosen_sparsity": mask_sparsity(reward_masks["chosen"], t64(case["chosen_mask"])),
        "grad_policy_chosen_logprobs": grads[0],
        "grad_policy_rejected_logprobs": grads[1],
        "grad_reward_mask_chosen": grads[2],
        "grad_kl_mask_chosen": grads[3],
    }
