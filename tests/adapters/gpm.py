"""The golden numbers of gpm."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives.nash import gpo_loss, sppo_loss
from mmalign.objectives.preference_model import preference_logits, preference_model_loss
from mmalign.rewards.win_rates import win_rates
from mmalign.selection.tournament import best_and_worst, score_targets
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    chosen, rejected = (t64(case[f"v_{side}"], requires_grad=True) for side in SIDES)
    scales, tau = t64(case["block_scales"]), case["tau"]
    model = preference_model_loss(chosen, rejected, scales, tau=tau, margin=case["margin"])
    loss = model.loss.mean()
    grads = torch.autograd.grad(loss, (chosen, rejected))
    table = preference_logits(t64(case["v_samples"]), scales, tau=tau)
    targets = t64([score_targets(logits).tolist() for logits in table])
    rates = t64([win_rates(p, count_self=True).tolist() for p in table.sigmoid().numpy()])
    pairs = [best_and_worst(row) for row in targets.tolist()]
    sides = (torch.tensor([p.best for p in pairs]), torch.tensor([p.worst for p in pairs]))

    def of_pairs(values: Tensor) -> list[Tensor]:
        return [values.gather(1, side[:, None])[:, 0] for side in sides]

    policy = [t64(case[f"policy_{side}_logps"], requires_grad=True) for side in SIDES]
    logps = [*policy, *(t64(case[f"ref_{side}_logps"]) for side in SIDES)]
    gpo = gpo_loss(*logps, *of_pairs(targets), beta=case["beta"]).loss.mean()
    sppo = sppo_loss(*logps, *of_pairs(rates), beta=case["beta"]).loss.mean()
    gpo_grads, sppo_grads = (torch.autograd.grad(each, policy) for each in (gpo, sppo))
    return {
        "score": model.scores,
        "prob": model.probs,
        "losses": model.loss,
        "loss": loss,
        "grad_v_chosen": grads[0],
        "grad_v_rejected": grads[1],
        "table": table,
        "targets_score": targets,
        "targets_prob": rates,
        "chosen": sides[0],
        "rejected": sides[1],
        "gpo_loss": gpo,
        "gpo_grad_chosen": gpo_grads[0],
        "gpo_grad_rejected": gpo_grads[1],
        "sppo_loss": sppo,
        "sppo_grad_chosen": sppo_grads[0],
        "sppo_grad_rejected": sppo_grads[1],
    }


SIDES = ("chosen", "rejected")
