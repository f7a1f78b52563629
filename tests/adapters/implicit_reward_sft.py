"""The golden numbers of implicit-reward-sft."""

from collections.abc import Mapping
from typing import Any, get_args

import torch

from mmalign.objectives.divergences import (
    Divergence,
    demonstration_sequence_loss,
    demonstration_token_loss,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    policy = t64(case["policy_token_logps"], requires_grad=True)
    ref, mask, beta = t64(case["ref_token_logps"]), t64(case["mask"]), case["beta"]
    mean_tokens = mask.sum(-1).mean()
    nowhere = torch.zeros_like(ref)  # total variation of the bare log-probability is the NLL
    found: dict[str, Any] = {
        "sft_nll_token_mean": demonstration_token_loss(
            policy, nowhere, mask, mean_tokens, beta=1.0, divergence="tv"
        ).loss.mean(),
        "sft_nll_sequence_sum": demonstration_sequence_loss(
            policy, nowhere, mask, beta=1.0, divergence="tv"
        ).loss.mean(),
        "sequence": {},
        "token": {},
    }
    for name in get_args(Divergence):
        for level, result in (
            (
                "sequence",
                demonstration_sequence_loss(policy, ref, mask, beta=beta, divergence=name),
            ),
            (
                "token",
                demonstration_token_loss(
                    policy, ref, mask, mean_tokens, beta=beta, divergence=name
                ),
            ),
        ):
            loss = result.loss.mean()
            found[level][name] = {
                "loss": loss,
                "implicit_reward": result.implicit_rewards,
                "grad_policy_token_logps": torch.autograd.grad(loss, policy)[0],
            }
    return found
