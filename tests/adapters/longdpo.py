"""The golden numbers of longdpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.pairwise import dpo_loss
from mmalign.objectives.sums import masked_sum
from mmalign.selection.segments import (
    choose_segments,
    contradicts_memory,
    length_score,
    puct_bounds,
    segment_value,
    top_suggestions,
    ucb_bound,
)
from mmalign.testing.golden import t64

SIDES = ("chosen", "rejected")


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    return _search(case) | _loss(case)


def _search(case: Mapping[str, Any]) -> dict[str, Any]:
    candidates, parent_visits = case["candidates"], case["parent_visits"]
    values = [segment_value(candidate["principle_weights"]) for candidate in candidates]
    visits = [candidate["visits"] for candidate in candidates]
    bounds = [
        ucb_bound(value, visits=count, parent_visits=parent_visits, alpha=case["alpha"])
        for value, count in zip(values, visits, strict=True)
    ]
    contradicting = [
        contradicts_memory(
            candidate["chunk_fact_sim"], candidate["inconsistent"], threshold=case["sim_threshold"]
        )
        for candidate in candidates
    ]
    choice = choose_segments(values, bounds, contradicting, u=case["u"], eta=case["eta"])
    return {
        "rewards": values,
        "ucb": bounds,
        "puct": puct_bounds(
            values,
            visits,
            [candidate["mean_logp"] for candidate in candidates],
            parent_visits=parent_visits,
        ),
        "kept": [not contradicts for contradicts in contradicting],
        "chosen": choice.chosen,
        "rejected": choice.rejected,
        "refine": choice.refine,
        "top_suggestions": top_suggestions(case["suggestion_confidence"]),
        "length_scores": [
            length_score(actual_words=actual, target_words=target)
            for actual, target in case["lengths"]
        ],
    }


def _loss(case: Mapping[str, Any]) -> dict[str, Any]:
    masks = {side: t64(case[f"{side}_mask"]) for side in SIDES}
    policy = {side: t64(case[f"policy_{side}_token_logps"], requires_grad=True) for side in SIDES}
    result = dpo_loss(
        *(masked_sum(policy[side], masks[side]) for side in SIDES),
        *(masked_sum(t64(case[f"ref_{side}_token_logps"]), masks[side]) for side in SIDES),
        beta=case["beta"],
    )
    grads = torch.autograd.grad(result.loss.mean(), [policy[side] for side in SIDES])
    return {
        "logits": result.chosen_rewards - result.rejected_rewards,
        "loss": result.loss.mean(),
        "grad_policy_chosen_token_logps": grads[0],
        "grad_policy_rejected_token_logps": grads[1],
    }
