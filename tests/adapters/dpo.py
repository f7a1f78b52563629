"""The golden numbers of dpo."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives import PairTerms, PreferenceLoss, masked_sum, parse_objective
from mmalign.testing.golden import t64

DPO_FAMILY = ("dpo", "cdpo", "ipo", "ipo_norm", "hinge", "slic", "simpo", "orpo")


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, dict[str, float]] = {
        "dpo": {"beta": case["beta"]},
        "cdpo": {"beta": case["beta"], "label_smoothing": case["label_smoothing"]},
        "ipo": {"beta": case["tau"]},
        "ipo_norm": {"beta": case["tau"]},
        "hinge": {"beta": case["beta"]},
        "slic": {"delta": case["slic_delta"], "sft_weight": case["slic_lambda"]},
        "simpo": {
            "beta": case["simpo_beta"],
            "gamma_beta_ratio": case["simpo_gamma_beta_ratio"],
        },
        "orpo": {"odds_weight": case["orpo_lambda"]},
    }
    chosen_mask, rejected_mask = t64(case["chosen_mask"]), t64(case["rejected_mask"])
    results: dict[str, PreferenceLoss] = {}
    chosen_grads: dict[str, Tensor] = {}
    rejected_grads: dict[str, Tensor] = {}
    for name in DPO_FAMILY:
        policy_chosen = t64(case["policy_chosen_token_logps"], requires_grad=True)
        policy_rejected = t64(case["policy_rejected_token_logps"], requires_grad=True)
        terms = PairTerms(
            policy_chosen_token_logps=policy_chosen,
            policy_rejected_token_logps=policy_rejected,
            chosen_mask=chosen_mask,
            rejected_mask=rejected_mask,
            ref_chosen_token_logps=t64(case["ref_chosen_token_logps"]),
            ref_rejected_token_logps=t64(case["ref_rejected_token_logps"]),
            chosen_tokens_per_pair=chosen_mask.sum() / len(chosen_mask),
        )
        results[name] = parse_objective({"name": name, **settings[name]}).loss(terms)
        chosen_grads[name], rejected_grads[name] = torch.autograd.grad(
            results[name].loss.mean(), (policy_chosen, policy_rejected)
        )
    dpo, simpo, orpo = results["dpo"], results["simpo"], results["orpo"]
    gap = {
        side: masked_sum(
            t64(case[f"policy_{side}_token_logps"]) - t64(case[f"ref_{side}_token_logps"]), mask
        )
        for side, mask in (("chosen", chosen_mask), ("rejected", rejected_mask))
    }
    return {
        "per_example": {name: result.loss for name, result in results.items()},
        "loss": {name: result.loss.mean() for name, result in results.items()},
        "grad_policy_chosen_token_logps": chosen_grads,
        "grad_policy_rejected_token_logps": rejected_grads,
        "margin_h": gap["chosen"] - gap["rejected"],
        "chosen_rewards": dpo.chosen_rewards,
        "rejected_rewards": dpo.rejected_rewards,
        "reward_accuracy": (dpo.chosen_rewards > dpo.rejected_rewards).double().mean(),
        "simpo_chosen_rewards": simpo.chosen_rewards,
        "simpo_rejected_rewards": simpo.rejected_rewards,
        "orpo_log_odds": orpo.chosen_rewards - orpo.rejected_rewards,
        "orpo_nll": orpo.metrics["nll"][0],
    }
