"""The golden numbers of spo-selfplay."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.games import exploitability, hedge_average
from mmalign.objectives.nash import self_play_loss
from mmalign.rewards.win_rates import queue_win_rates, spread_over_steps, win_rates
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    rewards = win_rates(case["P"])
    logps = t64(case["policy_logps"], requires_grad=True)
    result = self_play_loss(logps, t64(rewards))
    loss = result.loss.mean()
    game = t64(case["game"])
    average = hedge_average(game, num_steps=case["hedge_steps"], learning_rate=case["hedge_lr"])
    return {
        "rewards": rewards,
        "queue_rewards": queue_win_rates(case["queue_P"]),
        "step_rewards": [
            spread_over_steps(reward, num_steps=horizon)
            for reward, horizon in zip(rewards.tolist(), case["horizons"], strict=True)
        ],
        "advantages": result.advantages,
        "loss": loss,
        "grad_policy_logps": torch.autograd.grad(loss, logps)[0],
        "hedge_average": average,
        "exploitability": exploitability(average, game),
    }
