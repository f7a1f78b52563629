"""The golden numbers of on-policy-data."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives.bandit import (
    GroupLoss,
    bandit_rewards,
    best_of_n_loss,
    reinforce_loss,
    reward_pairs,
    reward_pairs_loss,
    rwr_loss,
)
from mmalign.selection.directions import first_best
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    rewards, beta = t64(case["rewards"]), case["beta"]
    over_pairs = partial(
        reward_pairs_loss,
        ref_logps=t64(case["ref_logps"]),
        beta=beta,
        min_gap=case["threshold"],
    )
    losses: dict[str, Callable[..., GroupLoss]] = {
        "best_of_n": best_of_n_loss,
        "best_of_n:worst": partial(best_of_n_loss, negative="worst", negative_weight=beta),
        "best_of_n:sum": partial(best_of_n_loss, negative="sum", negative_weight=beta),
        "best_of_n:average": partial(best_of_n_loss, negative="average", negative_weight=beta),
        "rwr": partial(rwr_loss, temperature=case["temp"]),
        "reinforce": partial(reinforce_loss, baseline=case["baseline"]),
        "dpo": over_pairs,
        "ipo_code": partial(over_pairs, pair_loss="ipo_code"),
        "ipo": partial(over_pairs, pair_loss="ipo"),
    }
    pairs = reward_pairs(rewards, min_gap=case["threshold"])
    wide, narrow, aligned = bandit_rewards(t64(case["actions"]))
    return {
        **{name: _with_gradient(loss, case, rewards) for name, loss in losses.items()},
        "pairs": torch.stack([pairs.chosen, pairs.rejected], -1),
        "best": [first_best(row) for row in case["rewards"]],
        "bandit_rewards": {"R1": wide, "R2": narrow, "R3": aligned},
    }


def _with_gradient(
    loss: Callable[..., GroupLoss], case: Mapping[str, Any], rewards: Tensor
) -> dict[str, Tensor]:
    policy_logps = t64(case["policy_logps"], requires_grad=True)
    mean = loss(policy_logps=policy_logps, rewards=rewards).loss.mean()
    return {"loss": mean, "grad_policy_logps": torch.autograd.grad(mean, policy_logps)[0]}
