"""The golden numbers of ppo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.actor_critic import (
    clipped_value_loss,
    masked_gae,
    token_moments,
    token_rewards,
    whiten,
)
from mmalign.objectives.aggregation import aggregate_token_losses, batch_counts
from mmalign.objectives.policy_gradient import ppo_policy_loss
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    policy = t64(case["policy_token_logps"], requires_grad=True)
    values = t64(case["values"], requires_grad=True)
    old, old_values = t64(case["old_token_logps"]), t64(case["old_values"])
    mask = torch.tensor(case["mask"])
    counts = batch_counts(mask)
    rewards = token_rewards(
        t64(case["scores"]), old, t64(case["ref_token_logps"]), mask, kl_weight=case["beta"]
    )
    raw = masked_gae(rewards, old_values, mask, gamma=case["gamma"], gae_lambda=case["lam"])
    advantages = whiten(raw.advantages, mask, token_moments(raw.advantages, mask))
    actor = ppo_policy_loss(
        policy,
        old,
        advantages,
        mask,
        counts,
        clip_low=case["clip_eps"],
        clip_high=case["clip_eps"],
        dual_clip=case["clip_ratio_c"],
    )
    critic = clipped_value_loss(
        values, old_values, raw.returns, mask, counts, clip_value=case["clip_value"]
    )
    return {
        "token_rewards": rewards,
        "advantages_raw": raw.advantages,
        "returns": raw.returns,
        "advantages": advantages,
        "policy_loss": actor.loss.sum(),
        "clip_fraction": aggregate_token_losses(
            actor.clipped.double(), mask, counts, loss_aggregation="token-mean"
        ).sum(),
        "value_loss": critic.loss.sum(),
        "grad_policy_token_logps": torch.autograd.grad(actor.loss.sum(), policy)[0],
        "grad_values": torch.autograd.grad(critic.loss.sum(), values)[0],
    }
