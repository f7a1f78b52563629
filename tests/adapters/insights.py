"""The golden numbers of insights."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import dpo_loss, ipo_loss, masked_mean, masked_sum
from mmalign.objectives.regularised import cpo_loss
from mmalign.objectives.unpaired import kto_loss, kto_reference_point
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    beta = case["beta"]
    policy = [t64(case[f"policy_{s}_token_logps"], requires_grad=True) for s in SIDES]
    masks = [t64(case[f"{s}_mask"]) for s in SIDES]
    ref_sums = [t64(case[f"ref_{s}_logps"]) for s in SIDES]
    sums = [masked_sum(logps, mask) for logps, mask in zip(policy, masks, strict=True)]
    means = [masked_mean(logps, mask) for logps, mask in zip(policy, masks, strict=True)]
    ref_means = [ref / mask.sum(-1) for ref, mask in zip(ref_sums, masks, strict=True)]
    mismatched = t64(case["mismatched_log_ratios"])
    z0 = kto_reference_point(mismatched, torch.zeros_like(mismatched))
    losses = {
        "dpo": dpo_loss(*sums, *ref_sums, beta=beta).loss,
        "ipo_sum": ipo_loss(*sums, *ref_sums, beta=beta).loss,
        "ipo_mean": ipo_loss(*means, *ref_means, beta=beta).loss,
        "kto": kto_loss(
            torch.cat(sums),
            torch.cat(ref_sums),
            torch.cat([torch.ones_like(sums[0]), torch.zeros_like(sums[1])]),
            z0,
            beta=beta,
            desirable_weight=case["desirable_weight"],
            undesirable_weight=case["undesirable_weight"],
        ).loss,
        "cpo": cpo_loss(
            policy[0],
            policy[1],
            masks[0],
            masks[1],
            masks[0].sum(-1).mean(),
            beta=beta,
            sft_weight=case["lam"],
        ).loss,
    }
    grads = {
        name: torch.autograd.grad(loss.mean(), policy, retain_graph=True)
        for name, loss in losses.items()
    }
    return {
        "losses": {name: loss.mean() for name, loss in losses.items()},
        "kl": z0,
        "grad_policy_chosen_token_logps": {name: grad[0] for name, grad in grads.items()},
        "grad_policy_rejected_token_logps": {name: grad[1] for name, grad in grads.items()},
    }


SIDES = ("chosen", "rejected")
