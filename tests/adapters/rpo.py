"""The golden numbers of rpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import PairTerms, parse_objective
from mmalign.testing.golden import t64

FORMS = ("cumulative", "average", "token_mean")
LOGPS = tuple(f"{m}_{s}_token_logps" for m in ("policy", "ref") for s in ("chosen", "rejected"))


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    tensors = {name: t64(case[name], requires_grad="policy" in name) for name in LOGPS}
    chosen_mask = t64(case["chosen_mask"])
    terms = PairTerms(
        **tensors,
        chosen_mask=chosen_mask,
        rejected_mask=t64(case["rejected_mask"]),
        chosen_tokens_per_pair=chosen_mask.sum() / len(chosen_mask),
    )
    settings = {"name": "rpo_sft_regularised", "beta": case["beta"], "sft_weight": case["eta"]}
    results = {form: parse_objective(settings | {"sft_form": form}).loss(terms) for form in FORMS}
    leaves = terms.policy_chosen_token_logps, terms.policy_rejected_token_logps
    grads = {
        form: torch.autograd.grad(result.loss.mean(), leaves, retain_graph=True)
        for form, result in results.items()
    }
    return {
        "dpo_loss": results["average"].metrics["rank_loss"].mean(),
        "regularizer": {f: result.metrics["sft_loss"].mean() for f, result in results.items()},
        "loss": {form: result.loss.mean() for form, result in results.items()},
        "grad_policy_chosen_token_logps": {form: grad[0] for form, grad in grads.items()},
        "grad_policy_rejected_token_logps": grads["cumulative"][1],
    }
