"""The golden numbers of self-npo."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.objectives.diffusion.negative import (
    guided_noise,
    merged_negative,
    moving_average,
    rollout_grid,
    self_npo_loss,
    truncated_rollout,
)
from mmalign.objectives.diffusion.schedule import (
    add_noise,
    noise_further,
    scaled_linear_schedule,
)
from mmalign.testing.denoiser import LinearDenoiser
from mmalign.testing.golden import t64


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    schedule = scaled_linear_schedule()
    grid = rollout_grid(num_levels=case["n_grid"])
    weights = {
        model: {name: t64(values) for name, values in case[model].items()}
        for model in ("teacher", "student")
    }
    teacher, student = (
        {kind: LinearDenoiser(**weights[model], condition=t64(case[kind])) for kind in CONDITIONS}
        for model in ("teacher", "student")
    )
    start_timesteps = [grid[index] for index in case["start_index"]]
    end = truncated_rollout(
        add_noise(t64(case["x0"]), t64(case["noise"]), schedule[start_timesteps]),
        case["start_index"],
        teacher["cond"],
        teacher["uncond"],
        schedule,
        grid,
        guidance=case["guidance"],
        max_moves=case["K"],
    )
    timesteps = torch.tensor(case["s_timesteps"])
    noisy = noise_further(
        end.latents, t64(case["s_noise"]), schedule[end.timesteps], schedule[timesteps]
    )
    student_noise = student["cond"](noisy, timesteps).requires_grad_()
    result = self_npo_loss(
        student_noise,
        noisy,
        end.clean_estimate,
        schedule[timesteps],
        loss_type=case["loss_type"],
        huber_c=case["huber_c"],
    )
    merged = merged_negative(
        *({"theta": t64(case[f"theta_{name}"])} for name in ("base", "pos", "npo")),
        merge_weight=case["merge_weight"],
    )
    return {
        "start_timesteps": start_timesteps,
        "end_timesteps": end.timesteps,
        "loop_turns": end.num_turns,
        "x_t": end.latents,
        "target_x0": end.clean_estimate,
        "x_s": noisy,
        "student_eps": student_noise,
        "pred_x0": result.clean_estimate,
        "loss": result.loss.mean(),
        "grad_student_eps": torch.autograd.grad(result.loss.mean(), student_noise)[0],
        "ema_teacher": moving_average(
            weights["teacher"], weights["student"], rate=case["ema_rate"]
        ),
        "cfg_eps": guided_noise(
            teacher["cond"](noisy, timesteps),
            student["uncond"](noisy, timesteps),
            scale=case["cfg_scale"],
        ),
        "theta_neg": merged["theta"],
    }


CONDITIONS = ("cond", "uncond")
