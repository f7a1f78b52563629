"""The golden numbers of otc."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.actor_critic import score_at_last_token
from mmalign.objectives.aggregation import batch_counts, generated_mask
from mmalign.objectives.groups import group_advantages
from mmalign.objectives.policy_gradient import grpo_loss
from mmalign.rewards.tool_efficiency import (
    fewest_correct_calls,
    mapped_calls,
    otc_grpo_efficiency,
    otc_grpo_reward,
    otc_ppo_efficiency,
    otc_ppo_reward,
    tool_productivity,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    correct, calls, group_ids = case["correct"], case["tool_calls"], case["group_id"]
    history = {int(group_id): n for group_id, n in case["n_history"].items()}
    fewest = fewest_correct_calls(calls, correct, group_ids, history)
    best = [fewest[group_id] for group_id in group_ids]
    scale = {"smoothing": case["c"], "alpha": case["alpha"]}
    ppo_rewards = [
        otc_ppo_reward(correct=right, num_calls=m, **scale).value
        for right, m in zip(correct, calls, strict=True)
    ]
    grpo_rewards = [
        otc_grpo_reward(correct=right, num_calls=m, fewest_calls=n, **scale).value
        for right, m, n in zip(correct, calls, best, strict=True)
    ]
    mask = generated_mask(
        torch.tensor(case["response_mask"]), torch.tensor(case["observation_mask"])
    )
    advantages = group_advantages(
        t64(grpo_rewards), torch.tensor(group_ids), std_eps=case["adv_eps"]
    )
    policy = t64(case["policy_token_logps"], requires_grad=True)
    result = grpo_loss(
        policy,
        t64(case["old_token_logps"]),
        advantages,
        mask,
        batch_counts(mask),
        kl_weight=0.0,
        clip_low=case["clip_eps"],
        clip_high=case["clip_eps"],
        loss_aggregation="token-mean",
    )
    use = tool_productivity(correct, calls)
    return {
        "r_tool_ppo": [otc_ppo_efficiency(m, smoothing=case["c"]) for m in calls],
        "reward_ppo": ppo_rewards,
        "n": {str(group_id): n for group_id, n in fewest.items()},
        "f": [None if n is None else mapped_calls(m, n) for m, n in zip(calls, best, strict=True)],
        "r_tool_grpo": [
            None if n is None else otc_grpo_efficiency(m, n, smoothing=case["c"])
            for m, n in zip(calls, best, strict=True)
        ],
        "reward_grpo": grpo_rewards,
        "advantages": advantages,
        "loss_mask": mask,
        "ppo_token_rewards": score_at_last_token(t64(ppo_rewards), mask),
        "loss": result.loss.sum(),
        "grad_policy_token_logps": torch.autograd.grad(result.loss.sum(), policy)[0],
        "em": use.exact_match,
        "tc": use.tool_calls,
        "tp": use.productivity,
    }
