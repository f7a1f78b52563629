"""The golden numbers of itool."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import masked_mean, simpo_loss
from mmalign.rewards.self_evaluation import fast_step_reward, self_evaluation_reward
from mmalign.selection.deficiency import perplexity, select_deficient, step_preference
from mmalign.selection.trees import uct_score
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    perplexities = perplexity(t64(case["ppl_token_logps"]), t64(case["ppl_mask"]))
    deficient = select_deficient(perplexities.tolist(), case["is_tool"], ratio=case["ratio"])
    children = case["children"]
    preference = step_preference(
        [child["value"] for child in children],
        [child["text"] for child in children],
        min_gap=case["value_threshold"],
        max_overlap=case["overlap_limit"],
        min_chosen=case["accept_value"],
    )
    return {
        "perplexity": perplexities,
        "selected": [*deficient.with_tool, *deficient.without_tool],
        "uct": [
            uct_score(
                child["value"],
                child["prob"],
                parent_visits=case["parent_visits"],
                visits=child["visits"],
                exploration=case["w_exp"],
            )
            for child in children
        ],
        "self_eval": self_evaluation_reward(case["self_eval_probs"]).value,
        "fast_reward": fast_step_reward(case["fast"]["action"], case["fast"]["gold"]).value,
        "preference": preference._asdict(),
        "simpo": _simpo(case),
    }


def _simpo(case: Mapping[str, Any]) -> dict[str, Any]:
    policy = [
        t64(case[f"policy_{side}_token_logps"], requires_grad=True)
        for side in ("chosen", "rejected")
    ]
    masks = [t64(case["chosen_mask"]), t64(case["rejected_mask"])]
    means = [masked_mean(logps, mask) for logps, mask in zip(policy, masks, strict=True)]
    result = simpo_loss(*means, beta=case["beta"], gamma_beta_ratio=case["gamma"] / case["beta"])
    loss = result.loss.mean()
    grads = torch.autograd.grad(loss, policy, retain_graph=True)
    return {
        "loss": loss,
        "losses": result.loss,
        "grad_policy_chosen_token_logps": grads[0],
        "grad_policy_rejected_token_logps": grads[1],
    }
