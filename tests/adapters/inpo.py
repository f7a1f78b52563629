"""The golden numbers of inpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.games import mirror_descent_step
from mmalign.objectives.nash import inpo_loss
from mmalign.selection.tournament import best_and_worst, knockout_tournament
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    policy = [
        t64(case[f"policy_{side}_logps"], requires_grad=True) for side in ("chosen", "rejected")
    ]
    frozen = [
        t64(case[f"{model}_{side}_logps"])
        for model in ("ref", "old")
        for side in ("chosen", "rejected")
    ]
    result = inpo_loss(*policy, *frozen, eta=case["eta"], tau=case["tau"])
    loss = result.loss.mean()
    grad_chosen, grad_rejected = torch.autograd.grad(loss, policy)
    following = mirror_descent_step(
        t64(case["tab_pi"]).log(),
        t64(case["tab_ref"]).log(),
        t64(case["tab_P"]),
        eta=case["tab_eta"],
        tau=case["tab_tau"],
    )
    preferences = case["tournament_P"]
    tournament = knockout_tournament(len(preferences), lambda i, j: preferences[i][j])
    by_score = best_and_worst(case["rm_scores"])
    return {
        "loss": loss,
        "h": result.metrics["log_ratio_margin"],
        "grad_chosen": grad_chosen,
        "grad_rejected": grad_rejected,
        "tab_next": following.exp(),
        "tournament": tournament._asdict(),
        "rm_pair": [by_score.best, by_score.worst],
    }
