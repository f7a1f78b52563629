"""The golden numbers of asft."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives import masked_mean, orpo_loss
from mmalign.objectives.absolute import asft_loss
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    chosen = t64(case["policy_chosen_token_logps"], requires_grad=True)
    rejected = t64(case["policy_rejected_token_logps"], requires_grad=True)
    masks = t64(case["chosen_mask"]), t64(case["rejected_mask"])
    num_chosen = masks[0].sum(-1)
    result = asft_loss(
        chosen,
        rejected,
        *masks,
        num_chosen.mean(),
        align_weight=case["lambda"],
        beta=case["beta"],
    )
    grads = torch.autograd.grad(result.loss.mean(), (chosen, rejected))
    # the NLL of a batch of one pair is that of its response
    orpo = [
        orpo_loss(
            chosen[row],
            rejected[row],
            masks[0][row],
            masks[1][row],
            num_chosen[row].squeeze(),
            odds_weight=case["lambda"],
        ).loss
        for row in (slice(i, i + 1) for i in range(len(chosen)))
    ]
    return {
        "mean_logp_chosen": masked_mean(chosen, masks[0]),
        "mean_logp_rejected": masked_mean(rejected, masks[1]),
        "log_odds_chosen": result.chosen_rewards,
        "log_odds_rejected": result.rejected_rewards,
        "per_example": result.loss,
        "loss": result.loss.mean(),
        "sft_loss": result.metrics["nll"].mean(),
        "align_loss": result.metrics["align_loss"].mean(),
        "grad_policy_chosen_token_logps": grads[0],
        "grad_policy_rejected_token_logps": grads[1],
        "orpo_loss": torch.cat(orpo).mean(),
    }
