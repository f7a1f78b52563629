"""The golden numbers of grpo."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives.aggregation import aggregate_token_losses, batch_counts
from mmalign.objectives.groups import group_advantages, mixed_groups
from mmalign.objectives.kl import kl_estimate
from mmalign.objectives.policy_gradient import (
    PolicyLoss,
    dapo_loss,
    dr_grpo_loss,
    grpo_loss,
    gspo_loss,
)
from mmalign.rewards.overlong import overlong_penalty
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    rewards, group_ids = t64(case["rewards"]), torch.tensor(case["group_id"])
    policy = t64(case["policy_token_logps"], requires_grad=True)
    old, ref = t64(case["old_token_logps"]), t64(case["ref_token_logps"])
    mask = torch.tensor(case["mask"])
    counts = batch_counts(mask)
    scaled = group_advantages(rewards, group_ids, std_eps=case["adv_eps"])
    centred = group_advantages(rewards, group_ids, scale="none")
    clip = {
        "clip_low": case["eps_low"],
        "clip_high": case["eps_high"],
        "dual_clip": case["clip_ratio_c"],
    }
    kl = aggregate_token_losses(
        kl_estimate(policy, ref).detach(), mask, counts, loss_aggregation="token-mean"
    ).sum()

    def told(result: PolicyLoss, **further: Tensor) -> dict[str, Tensor]:
        loss = result.loss.sum()
        (grad,) = torch.autograd.grad(loss, policy)
        return {"loss": loss, "grad_policy_token_logps": grad, **further}

    gspo = gspo_loss(
        policy,
        old,
        scaled,
        mask,
        counts,
        clip_low=case["gspo_eps_low"],
        clip_high=case["gspo_eps_high"],
    )
    return {
        "advantages_std": scaled,
        "advantages_center": centred,
        "grpo": told(
            grpo_loss(policy, old, scaled, mask, counts, ref, kl_weight=case["beta"], **clip),
            kl_token_mean=kl,
        ),
        "dr_grpo": told(
            dr_grpo_loss(
                policy,
                old,
                centred,
                mask,
                counts,
                max_completion_tokens=case["max_completion_length"],
                **clip,
            ),
            kl_token_mean=kl,
        ),
        "dapo": told(dapo_loss(policy, old, scaled, mask, counts, **clip), kl_token_mean=kl),
        "gspo": told(gspo, seq_ratio=gspo.ratios),
        "overlong_penalties": [
            overlong_penalty(
                num_tokens,
                max_tokens=case["overlong"]["max_len"],
                cache_tokens=case["overlong"]["cache"],
                factor=case["overlong"]["factor"],
            ).value
            for num_tokens in case["response_lengths"]
        ],
        "dynamic_keep": {
            str(group_id): keep
            for group_id, keep in mixed_groups(case["accuracies"], case["group_id"]).items()
        },
    }
