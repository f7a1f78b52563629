"""The golden numbers of rationales."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import masked_mean, masked_sum
from mmalign.objectives.pairwise import log_ratio_rewards
from mmalign.objectives.regularised import rdpo_rationale_loss, rorpo_rationale_loss
from mmalign.testing.golden import t64

TEXTS = ("chosen", "rejected", "rationale")


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    beta, gamma = case["beta"], case["gamma"]
    names = [f"policy_{text}_token_logps" for text in TEXTS]
    tokens = [t64(case[name], requires_grad=True) for name in names]
    masks = [t64(case[f"{text}_mask"]) for text in TEXTS]
    sums = [masked_sum(logps, mask) for logps, mask in zip(tokens, masks, strict=True)]
    logps = sums[0], sums[1], t64(case["ref_chosen_logps"]), t64(case["ref_rejected_logps"])
    log_ratios = log_ratio_rewards(*logps, 1.0)
    rationale = tokens[2], masks[2]
    texts = *tokens, *masks, masks[0].sum(-1).mean()
    results = {
        "paper": rdpo_rationale_loss(*logps, *rationale, beta=beta, rationale_weight=gamma),
        "code": rdpo_rationale_loss(
            *logps, *rationale, beta=beta, rationale_weight=gamma, rationale_form="logsigmoid"
        ),
        "rorpo_simple": rorpo_rationale_loss(*texts, odds_weight=beta, rationale_weight=gamma),
        "rorpo_code": rorpo_rationale_loss(
            *texts, odds_weight=beta, rationale_weight=gamma, rationale_form="logsigmoid"
        ),
    }
    grads = {
        name: torch.autograd.grad(results[name].loss.mean(), tokens, retain_graph=True)
        for name in ("paper", "code", "rorpo_simple")
    }
    odds = results["rorpo_simple"]
    return {
        "logits": log_ratios[0] - log_ratios[1],
        "rationale_sum": sums[2],
        "rationale_mean": masked_mean(*rationale),
        "log_odds": odds.chosen_rewards - odds.rejected_rewards,
        **{f"loss_{name}": result.loss.mean() for name, result in results.items()},
        "losses_paper": results["paper"].loss,
        "losses_code": results["code"].loss,
        "grads": {name: dict(zip(names, grad, strict=True)) for name, grad in grads.items()},
    }
