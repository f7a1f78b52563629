"""The golden numbers of egpo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.diagnostics.games import (
    duality_gap,
    equivalent_learning_rate,
    extragradient_step,
    population_ipo_loss,
)
from mmalign.objectives.nash import online_ipo_loss
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    return {**_tabular(case), **_sampled(case)}


def _tabular(case: Mapping[str, Any]) -> dict[str, Any]:
    game, beta, eta = t64(case["P"]), case["beta"], case["eta"]
    logits, ref_logits = t64(case["theta"], requires_grad=True), t64(case["theta_ref"])
    logprobs, ref_logprobs = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    step = extragradient_step(logits, ref_logits, game, beta=beta, eta=eta)
    full = step.full.log_softmax(-1)
    pop_loss = population_ipo_loss(logits, ref_logits, game @ logprobs.exp(), beta=beta)
    return {
        "half": step.half,
        "full": step.full,
        "pi_full": full.exp(),
        "gap_before": duality_gap(logprobs, ref_logprobs, game, beta=beta),
        "gap_after": duality_gap(full, ref_logprobs, game, beta=beta),
        "pop_loss": pop_loss,
        "pop_grad": torch.autograd.grad(pop_loss, logits)[0],
        "lr_equivalent": equivalent_learning_rate(eta=eta, beta=beta, num_answers=len(game)),
    }


def _sampled(case: Mapping[str, Any]) -> dict[str, Any]:
    policy = [t64(case[f"policy_{name}_logps"], requires_grad=True) for name in ("y", "y2")]
    normalised = case["normalize_logprobs"]
    result = online_ipo_loss(
        *policy,
        *(t64(case[name]) for name in ("ref_y_logps", "ref_y2_logps", "p_y", "p_y2")),
        beta=case["beta"],
        first_tokens=t64(case["len_y"]) if normalised else None,
        second_tokens=t64(case["len_y2"]) if normalised else None,
    )
    loss = result.loss.mean()
    first_grad, second_grad = torch.autograd.grad(loss, policy)
    return {
        "seq_loss": loss,
        "grad_policy_y_logps": first_grad,
        "grad_policy_y2_logps": second_grad,
    }
