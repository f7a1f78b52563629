"""The golden numbers of ranking-accuracy."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.ranking import (
    exact_list_match,
    flip_difficulty,
    idealised_log_ratios,
    ipo_flip_losses,
    rank_transitions,
    ranked_right,
    ranked_right_with_ties,
    ranking_gap,
    rewarded_right,
)
from mmalign.objectives import dpo_loss, parse_objective
from mmalign.testing.golden import t64

NAMES = [f"{model}_{side}_logps" for model in ("policy", "ref") for side in ("chosen", "rejected")]


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    beta, shares = case["beta"], t64(case["rater_proportion"])
    logps = [t64(case[name]) for name in NAMES]
    lengths = [t64(case["chosen_lengths"]), t64(case["rejected_lengths"])]
    means = [values / length for values, length in zip(logps, lengths * 2, strict=True)]
    right, right_mean = ranked_right(*logps[:2]), ranked_right(*means[:2])
    gap = ranking_gap(*[*logps, shares], betas=[beta])
    difficulty = flip_difficulty(*logps[2:], beta=beta)
    lists = exact_list_match(t64(case["list_logps"]), torch.tensor(case["list_human_ranks"]))
    policy_chosen = t64(case["policy_chosen_logps"], requires_grad=True)
    scaled = parse_objective(
        {"name": "dpo_scaled_reference", "beta": beta, "reference_weight": case["gamma"]}
    )
    fn = scaled.objective.fn
    dpo_gamma = fn(policy_chosen, *logps[1:], **scaled.config.model_dump()).loss.mean()
    return {
        "per_example": right.double(),
        "ranking_accuracy": gap.accuracy,
        "per_example_normalised": right_mean.double(),
        "ranking_accuracy_normalised": right_mean.double().mean(),
        "per_example_ties": ranked_right_with_ties(
            means[0], means[1], shares, tolerance=case["tie_tolerance"]
        ).double(),
        "reward_accuracy": rewarded_right(*logps, beta=beta).double().mean(),
        "idealised_log_ratio": idealised_log_ratios(*[*logps[2:], shares], beta=beta),
        "idealised_ranking_accuracy": gap.idealised_median,
        "idealised_ranking_accuracy_normalised": ranking_gap(
            *[*means, shares], betas=[beta]
        ).idealised_median,
        "alignment_gap": gap.gap,
        "reference_log_ratio_c": difficulty.ref_log_ratios,
        "difficulty_margin": difficulty.margins,
        "loss_threshold_to_flip": difficulty.loss_thresholds,
        "dpo_loss": dpo_loss(*logps, beta=beta).loss,
        "dpo_gamma_loss": dpo_gamma,
        "grad_dpo_gamma_policy_chosen_logps": torch.autograd.grad(dpo_gamma, policy_chosen)[0],
        "ipo_threshold": ipo_flip_losses(*logps[2:], tau=case["tau"]),
        "list_exact_match": lists.double(),
        "list_ranking_accuracy": lists.double().mean(),
        "categories": rank_transitions(*logps),
    }
