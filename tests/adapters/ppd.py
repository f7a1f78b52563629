"""The golden numbers of ppd."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.diffusion.pairs import denoising_errors, diffusion_dpo_loss
from mmalign.objectives.diffusion.personal import (
    mix_users,
    personal_shots,
    text_attention,
    user_attention,
)
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    sides = ("w", "l")
    attention = [t64(case[name]) for name in ("q", "k", "v")]
    policy = {side: t64(case[f"policy_eps_{side}"], requires_grad=True) for side in sides}
    targets = {side: t64(case[f"target_{side}"]) for side in sides}
    result = diffusion_dpo_loss(
        *(denoising_errors(policy[side], targets[side]) for side in sides),
        *(denoising_errors(t64(case[f"ref_eps_{side}"]), targets[side]) for side in sides),
        beta=case["beta"],
    )
    grads = torch.autograd.grad(result.loss.mean(), [policy[side] for side in sides])
    return {
        "text_only": text_attention(*attention, num_heads=case["heads"]),
        "with_user": user_attention(
            *attention,
            *(t64(case[name]) for name in ("user", "Wk", "Wv")),
            num_heads=case["heads"],
            user_weight=case["lam"],
            keep=t64(case["keep"]),
        ),
        "z": result.chosen_rewards - result.rejected_rewards,
        "loss": result.loss.mean(),
        "grad_policy_w": grads[0],
        "grad_policy_l": grads[1],
        "shots": personal_shots(
            case["user_pairs"],
            exclude={case["exclude"]},
            seed=case["shot_seed"],
            num_shots=case["n_shots"],
        ),
        "mixed": mix_users(t64(case["mix_embeddings"]), t64(case["mix_weights"])),
    }
