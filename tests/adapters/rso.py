"""The golden numbers of rso."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives import PreferenceLoss, dpo_loss, hinge_loss
from mmalign.selection.rejection_sampling import (
    acceptance_probs,
    baseline_reward,
    first_round_pairs,
    rejection_sample,
    tournament_pairs,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    rewards = [baseline_reward(prob) for prob in case["prob_beats_baseline"]]
    beta = case["rejection_beta"]
    accepted = rejection_sample(
        rewards, case["uniforms"], num_accepted=case["num_samples"], beta=beta
    )
    ref = [t64(case["ref_chosen_logps"]), t64(case["ref_rejected_logps"])]
    none = [torch.zeros_like(logps) for logps in ref]
    sigmoid_norm = _loss(dpo_loss, case, ref)
    hinge_norm, hinge = _loss(hinge_loss, case, ref), _loss(hinge_loss, case, none)
    return {
        "rewards": rewards,
        "first_pass_accept_prob": acceptance_probs(rewards, beta=beta),
        "accepted_indices": accepted.indices,
        "uniforms_used": accepted.num_uniforms,
        "first_round_pairs": first_round_pairs(case["pair_prob"]),
        "tournament_pairs": tournament_pairs(case["pair_prob"]),
        "loss_sigmoid_norm": sigmoid_norm["loss"],
        "loss_hinge_norm": hinge_norm["loss"],
        "loss_hinge": hinge["loss"],
        "grad_sigmoid_norm_chosen": sigmoid_norm["grad"],
        "grad_hinge_norm_chosen": hinge_norm["grad"],
        "grad_hinge_chosen": hinge["grad"],
    }


def _loss(
    objective: Callable[..., PreferenceLoss], case: Mapping[str, Any], ref: list[Tensor]
) -> dict[str, Tensor]:
    chosen = t64(case["policy_chosen_logps"], requires_grad=True)
    result = objective(chosen, t64(case["policy_rejected_logps"]), *ref, beta=case["gamma"])
    loss = result.loss.mean()
    return {"loss": loss, "grad": torch.autograd.grad(loss, chosen, retain_graph=True)[0]}
