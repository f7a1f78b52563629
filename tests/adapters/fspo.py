"""The golden numbers of fspo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.pairwise import dpo_loss, ipo_loss, log_ratio_rewards
from mmalign.selection.few_shot import pack_few_shot
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    chosen = t64(case["policy_chosen_logps"], requires_grad=True)
    logps = (
        chosen,
        t64(case["policy_rejected_logps"]),
        t64(case["ref_chosen_logps"]),
        t64(case["ref_rejected_logps"]),
    )
    ipo, dpo = ipo_loss(*logps, beta=case["beta"]).loss, dpo_loss(*logps, beta=case["beta"]).loss
    chosen_ratios, rejected_ratios = log_ratio_rewards(*logps, beta=1.0)
    packed = [
        record._asdict()
        for user in case["users"]
        for record in pack_few_shot(
            user["labels"],
            user["permutations"],
            user=user["id"],
            num_shots=case["num_shots"],
            waste_row=bool(case["block_extra"]),
        )
    ]
    return {
        "packed": packed,
        "d": chosen_ratios - rejected_ratios,
        "ipo_losses": ipo,
        "dpo_losses": dpo,
        "ipo_loss": ipo.mean(),
        "dpo_loss": dpo.mean(),
        "ipo_grad_chosen": torch.autograd.grad(ipo.mean(), chosen)[0],
        "dpo_grad_chosen": torch.autograd.grad(dpo.mean(), chosen)[0],
    }
