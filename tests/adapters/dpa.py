"""The golden numbers of dpa."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.bandit import best_of_n_loss
from mmalign.objectives.reward_models import attribute_regression_loss
from mmalign.objectives.sums import masked_mean
from mmalign.rewards.multi_objective import direction_at, prompt_weights
from mmalign.selection.directions import choose_along
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    directions = [direction_at(angle) for angle in case["theta_deg"]]
    choices = [
        choose_along(rewards, direction)
        for rewards, direction in zip(case["rewards"], directions, strict=True)
    ]
    scores = [choice.scores for choice in choices]
    token_logps = t64(case["policy_token_logps"], requires_grad=True)
    sft = best_of_n_loss(masked_mean(token_logps, t64(case["mask"])), t64(scores)).loss.mean()
    labelled = t64(case["attr_mask"])
    regression = attribute_regression_loss(
        t64(case["attr_pred"]), t64(case["attr_target"]), labelled, labelled.sum() / len(labelled)
    )
    return {
        "v": directions,
        "prompt_weights": [prompt_weights(direction) for direction in directions],
        "scalarised": scores,
        "best": [choice.place for choice in choices],
        "sft_loss": sft,
        "grad_policy_token_logps": torch.autograd.grad(sft, token_logps)[0],
        "rm_mse": regression.mean(),
    }
