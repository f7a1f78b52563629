"""The golden numbers of themis."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.themis import (
    segment_tokens_per_pair,
    themis_loss,
    themis_pooled_loss,
)
from mmalign.rewards.themis import ranking_accuracy_of_rewards
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    chosen = t64(case["rewards_chosen"], requires_grad=True)
    rejected = t64(case["rewards_rejected"], requires_grad=True)
    logps = t64(case["token_logps"], requires_grad=True)
    segments = torch.tensor(case["segment"]).chunk(2)
    chosen_logps, rejected_logps = logps.chunk(2)
    inputs: dict[str, Any] = {
        "chosen_rewards": chosen,
        "rejected_rewards": rejected,
        "chosen_token_logps": chosen_logps,
        "rejected_token_logps": rejected_logps,
        "chosen_segments": segments[0],
        "rejected_segments": segments[1],
        "tokens_per_pair": segment_tokens_per_pair(*segments),
    }
    train_observations = bool(case["train_observation"])
    code = themis_pooled_loss(
        **inputs,
        rank_weight=case["rank_weight"],
        train_observations=train_observations,
        train_chosen_answer=bool(case["train_chosen_answer"]),
    )
    paper = themis_loss(
        **inputs,
        tool_weight=case["paper_alpha"],
        rationale_weight=case["paper_omega"],
        train_observations=train_observations,
    )
    leaves = (chosen, rejected, logps)
    code_grads = torch.autograd.grad(code.loss.mean(), leaves, retain_graph=True)
    paper_grads = torch.autograd.grad(paper.loss.mean(), leaves)
    names = ("grad_rewards_chosen", "grad_rewards_rejected", "grad_token_logps")
    return {
        "code": {
            "loss": code.loss.mean(),
            "lm_loss": code.metrics["lm_loss"].mean(),
            "rank_loss": code.metrics["rank_loss"].mean(),
            **dict(zip(names, code_grads, strict=True)),
        },
        "paper": {
            "loss": paper.loss.mean(),
            **{
                name: paper.metrics[name].mean()
                for name in ("tool_loss", "observation_loss", "rationale_loss")
            },
            **dict(zip(names, paper_grads, strict=True)),
        },
        "accuracy": ranking_accuracy_of_rewards(
            case["rewards_chosen"], case["rewards_rejected"]
        ).accuracy,
    }
