"""The golden numbers of hypo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.tabular import kl_divergence
from mmalign.objectives import dpo_loss
from mmalign.objectives.online import online_kl_loss
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    chosen = t64(case["policy_chosen_logps"], requires_grad=True)
    rejected = t64(case["policy_rejected_logps"], requires_grad=True)
    online, ref = (
        t64(case["online_policy_logps"], requires_grad=True),
        t64(case["online_ref_logps"]),
    )
    dpo = dpo_loss(
        chosen,
        rejected,
        t64(case["ref_chosen_logps"]),
        t64(case["ref_rejected_logps"]),
        beta=case["beta"],
    ).loss.mean()
    plain = online_kl_loss(online, ref, kl_weight=case["lambda"], baseline="none")
    loo = online_kl_loss(online, ref, kl_weight=case["lambda"])
    surrogate, surrogate_loo = dpo + plain.loss.mean(), dpo + loo.loss.mean()
    grads = torch.autograd.grad(surrogate, (chosen, rejected, online), retain_graph=True)
    toy_logits = t64(case["toy_policy_logits"], requires_grad=True)
    toy_kl = kl_divergence(toy_logits.log_softmax(-1), t64(case["toy_ref_logits"]).log_softmax(-1))
    return {
        "dpo_loss": dpo,
        "kl_estimate": plain.kl.mean(),
        "objective": dpo + plain.penalty.mean(),
        "surrogate": surrogate,
        "surrogate_loo": surrogate_loo,
        "grad_policy_chosen_logps": grads[0],
        "grad_policy_rejected_logps": grads[1],
        "grad_online_policy_logps": grads[2],
        "grad_online_policy_logps_loo": torch.autograd.grad(surrogate_loo, online)[0],
        "toy_kl": toy_kl,
        "toy_grad_kl_wrt_logits": torch.autograd.grad(toy_kl, toy_logits)[0],
    }
