"""The golden numbers of pro."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmalign.objectives.reward_models import prompt_weight_loss
from mmalign.rewards.multi_objective import (
    Calibration,
    kl_shaped_rewards,
    orchestrated_rewards,
    target_weights,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    calibration = Calibration(tuple(case["rm_mean"]), tuple(case["rm_std"]))
    targets = target_weights(case["rewards_preferred"], calibration, temperature=case["T"])
    logits = t64(case["adapter_logits"], requires_grad=True)
    result = prompt_weight_loss(logits, torch.from_numpy(targets))
    rewards = orchestrated_rewards(case["rewards_sampled"], result.weights, calibration)
    equal = np.full(targets.shape, 1 / targets.shape[1])
    return {
        "target_weights": targets,
        "weights": result.weights,
        "losses": result.loss,
        "loss": result.loss.mean(),
        "grad_adapter_logits": torch.autograd.grad(result.loss.mean(), logits)[0],
        "total_reward": rewards,
        "kl_shaped_reward": kl_shaped_rewards(
            rewards, case["policy_logps"], case["ref_logps"], beta=case["beta"]
        ),
        "uniform_reward": orchestrated_rewards(case["rewards_sampled"], equal, calibration),
    }
