"""The golden numbers of dcpo."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.objectives.diffusion.captions import caption_fields
from mmalign.objectives.diffusion.pairs import (
    denoising_errors,
    diffusion_dpo_loss,
    order_by_label,
)
from mmalign.objectives.diffusion.schedule import add_noise, scaled_linear_schedule
from mmalign.testing.denoiser import LinearDenoiser
from mmalign.testing.golden import t64

PREDICTIONS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    sides = ("chosen", "rejected")
    pairs = order_by_label(case["label_0"]).pairs
    rows = [pair.row for pair in pairs]
    fields = [caption_fields(case["variant"], chosen_image=pair.chosen) for pair in pairs]
    timesteps = torch.tensor(case["timesteps"])[rows]
    noise = t64(case["noise"])[rows]
    captions = {
        side: t64(
            [
                case[getattr(names, side)][pair.row]
                for names, pair in zip(fields, pairs, strict=True)
            ]
        )
        for side in sides
    }
    predictions: dict[str, Tensor] = {}
    for side in sides:
        clean = t64([case[f"x0_{getattr(pair, side)}"][pair.row] for pair in pairs])
        noisy = add_noise(clean, noise, scaled_linear_schedule()[timesteps])
        for model in ("policy", "ref"):
            weights = {name: t64(values) for name, values in case[f"{model}_net"].items()}
            denoiser = LinearDenoiser(**weights, condition=captions[side])
            predictions[f"{model}_{side}"] = denoiser(noisy, timesteps).requires_grad_()
    result = diffusion_dpo_loss(
        *(denoising_errors(predictions[name], noise) for name in PREDICTIONS),
        beta=case["beta"],
    )
    grads = torch.autograd.grad(result.loss.mean(), [predictions[f"policy_{s}"] for s in sides])
    return {
        "kept": rows,
        "winner": [pair.chosen for pair in pairs],
        "caption_w": captions["chosen"],
        "caption_l": captions["rejected"],
        "policy_eps_w": predictions["policy_chosen"],
        "policy_eps_l": predictions["policy_rejected"],
        "ref_eps_w": predictions["ref_chosen"],
        "ref_eps_l": predictions["ref_rejected"],
        "z": result.chosen_rewards - result.rejected_rewards,
        "loss": result.loss.mean(),
        "grad_policy_eps_w": grads[0],
        "grad_policy_eps_l": grads[1],
    }
