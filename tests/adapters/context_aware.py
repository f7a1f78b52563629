"""The golden numbers of context-aware."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.contexts import context_accuracy, context_errors, marginal_preferences
from mmalign.objectives.reward_models import context_pair_loss
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    rewards = t64(case["record_rewards"], requires_grad=True)
    result = context_pair_loss(rewards)
    accuracy = context_accuracy(result.margins)
    probs, margins = t64(case["p_context"]), t64(case["context_margins"])
    marginals = marginal_preferences(probs, margins)
    errors = context_errors(
        probs, margins, t64(case["p_context_true"]), t64(case["context_margins_true"])
    )
    return {
        "margins": result.margins,
        "loss": result.loss.mean(),
        "grad_rewards": torch.autograd.grad(result.loss.mean(), rewards)[0],
        "row_accuracy": accuracy.rows,
        "joint_accuracy": accuracy.records,
        "marginal_preference": marginals.vote,
        "marginal_utility": marginals.utility,
        "top_context_preference": marginals.top_context,
        "error": errors.error,
        "context_error": errors.context,
        "judge_error": errors.judge,
    }
