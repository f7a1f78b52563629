"""The golden numbers of scdpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.stepwise import after_shared_steps, group_losses, mixed_losses
from mmalign.objectives.sums import masked_sum
from mmalign.selection.restarts import branch_points, restart_temperatures
from mmalign.testing.golden import t64

SIDES = ("chosen", "rejected")


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    last_shared = torch.tensor(case["shared_last_step"])
    is_naive = torch.tensor(case["is_naive"])
    masks = {
        side: after_shared_steps(torch.tensor(case[f"{side}_step_ids"]), last_shared)
        for side in SIDES
    }
    policy = {side: t64(case[f"policy_{side}_token_logps"], requires_grad=True) for side in SIDES}
    losses = dpo_loss(
        *(masked_sum(policy[side], masks[side]) for side in SIDES),
        *(masked_sum(t64(case[f"ref_{side}_token_logps"]), masks[side]) for side in SIDES),
        beta=case["beta"],
    ).loss
    pooled = mixed_losses(losses, is_naive, mix="pooled").mean()
    grads = torch.autograd.grad(pooled, [policy[side] for side in SIDES], retain_graph=True)
    num_steps = case["num_generated_steps"]
    return {
        "chosen_loss_mask": masks["chosen"].double(),
        "rejected_loss_mask": masks["rejected"].double(),
        "per_example": losses,
        "loss_mixed": pooled,
        "loss_naive": group_losses(losses, is_naive).mean(),
        "loss_sc": group_losses(losses, 1 - is_naive).mean(),
        "loss_sum": mixed_losses(losses, is_naive, mix="sum").mean(),
        "grad_policy_chosen_token_logps": grads[0],
        "grad_policy_rejected_token_logps": grads[1],
        "temperature_paper": restart_temperatures(num_steps),
        "temperature_code": restart_temperatures(num_steps, rise=0.1),
        "branch_start_steps": branch_points(case["solution_block_types"]),
    }
