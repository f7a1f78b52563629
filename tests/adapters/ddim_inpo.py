"""The golden numbers of ddim-inpo."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmalign.objectives import PreferenceLoss
from mmalign.objectives.diffusion.inversion import (
    InversionPlan,
    InvertedLatents,
    ReNoise,
    aligned_plan,
    invert_ddim,
    legacy_plan,
)
from mmalign.objectives.diffusion.pairs import (
    denoising_errors,
    diffusion_dpo_loss,
    implicit_accuracy,
)
from mmalign.objectives.diffusion.schedule import scaled_linear_schedule
from mmalign.testing.denoiser import LinearDenoiser
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    sides = {
        side: Side(t64(case[f"x0_{letter}"]), t64(case[f"inj_{letter}"]))
        for side, letter in (("chosen", "w"), ("rejected", "l"))
    }
    return inverted_outputs(
        case, sides, lambda errors: diffusion_dpo_loss(*errors, beta=case["beta"])
    )


PREDICTIONS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")


class Side(NamedTuple):
    """One side of a batch."""

    clean: Tensor
    step_noise: Tensor


def inverted_outputs(
    case: Mapping[str, Any],
    sides: Mapping[str, Side],
    loss: Callable[[list[Tensor]], PreferenceLoss],
    renoise: ReNoise = "none",
) -> dict[str, Any]:
    """Everything from the inversion to the gradient, which ddim-inpo and smpo-diffusion share."""
    plan = _plan(case, rows=len(sides["chosen"].clean))
    denoisers = {
        model: LinearDenoiser(
            **{name: t64(values) for name, values in case[f"{model}_net"].items()},
            condition=t64(case["cond"]),
        )
        for model in ("policy", "ref")
    }
    inverting = denoisers["policy" if case["inversion_model"] == "policy" else "ref"]
    inverted: dict[str, InvertedLatents] = {}
    predictions: dict[str, Tensor] = {}
    errors: dict[str, Tensor] = {}
    for name, side in sides.items():
        inverted[name] = invert_ddim(
            side.clean,
            inverting,
            scaled_linear_schedule(),
            plan,
            set_alpha_to_one=case["set_alpha_to_one"],
            eta=case["eta"],
            step_noise=side.step_noise,
            renoise=renoise,
        )
        for model, denoiser in denoisers.items():
            noise = denoiser(inverted[name].noisy, torch.tensor(plan.timesteps))
            predictions[f"{model}_{name}"] = noise.requires_grad_()
            errors[f"{model}_{name}"] = denoising_errors(noise, inverted[name].noise)
    result = loss([errors[name] for name in PREDICTIONS])
    grads = torch.autograd.grad(
        result.loss.mean(), [predictions["policy_chosen"], predictions["policy_rejected"]]
    )
    return {
        "timestep_used": plan.timesteps[0],
        "network_labels": [move.label for move in plan.moves],
        "x_t_w": inverted["chosen"].noisy,
        "x_t_l": inverted["rejected"].noisy,
        "tau_w": inverted["chosen"].noise,
        "tau_l": inverted["rejected"].noise,
        "policy_eps_w": predictions["policy_chosen"],
        "policy_eps_l": predictions["policy_rejected"],
        "ref_eps_w": predictions["ref_chosen"],
        "ref_eps_l": predictions["ref_rejected"],
        "z": result.chosen_rewards - result.rejected_rewards,
        "loss": result.loss.mean(),
        "implicit_acc": implicit_accuracy(result.chosen_rewards, result.rejected_rewards),
        "grad_policy_eps_w": grads[0],
        "grad_policy_eps_l": grads[1],
    }


def _plan(case: Mapping[str, Any], *, rows: int) -> InversionPlan:
    grid = {"num_steps": case["n_steps"], "offset": case["steps_offset"]}
    if case["schedule_mode"] == "aligned":
        return aligned_plan([case["step_index"]] * rows, **grid)
    return legacy_plan([case["timestep"]] * rows, **grid)
