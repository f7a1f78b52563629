"""Self-NPO: a deliberately weaker copy of a diffusion model, for the negative branch of guidance.

One training step is `truncated_rollout` of the teacher, `noise_further` from the state reached,
`self_npo_loss` of the student there, and `moving_average` of the teacher. The labelled form,
Diffusion-NPO, is `diffusion_dpo_loss` with `plain` scale and the sides exchanged.

The rollout starts from pure noise at the last level (the paper's data-free form) or from noised
images at any level (the released code): the caller gives the start. Networks predict noise; wrap
others with `predicted_noise`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.diffusion.schedule import Denoiser, clean_estimate, ddim_move
from mmalign.objectives.sums import at_least_float32, require_positive, require_same_shape

__all__ = [
    "RolloutEnd",
    "TruncatedLoss",
    "guided_noise",
    "merged_negative",
    "moving_average",
    "rollout_grid",
    "self_npo_loss",
    "truncated_rollout",
]


class RolloutEnd(NamedTuple):
    """Where a truncated rollout came to; nothing of it carries gradient."""

    latents: Tensor
    """[B, ...], the state reached."""
    timesteps: Tensor
    """[B], its level; 0 at the bottom."""
    clean_estimate: Tensor
    """[B, ...], the teacher's estimate of the clean latent: the student's target."""
    num_turns: int
    """How often the teacher estimated the whole batch."""


class TruncatedLoss(NamedTuple):
    """What Self-NPO says about each latent of a batch."""

    loss: Tensor
    """[B], to be minimised; the trainer averages it over the global batch."""
    clean_estimate: Tensor
    """[B, ...], the student's, detached."""


def rollout_grid(*, num_levels: int = 25, num_timesteps: int = 1000) -> tuple[int, ...]:
    """The timesteps of a DDIM rollout, rising: (i + 1) * stride - 1, stride T // num_levels.

    Args:
        num_levels: Levels of the grid. Source: Self-NPO's code.
        num_timesteps: T, length of the schedule.

    Raises:
        ShapeError: No level, or more levels than timesteps.
    """
    if not 1 <= num_levels <= num_timesteps:
        raise ShapeError(f"num_levels is {num_levels}, expected 1 to {num_timesteps}")
    stride = num_timesteps // num_levels
    return tuple((index + 1) * stride - 1 for index in range(num_levels))


def guided_noise(positive: Tensor, negative: Tensor, *, scale: float) -> Tensor:
    """Guidance: what the positive branch answers, moved away from the negative one.

        noise = negative + scale * (positive - negative)

    With a trained negative network both networks run once per step, the positive one under the
    prompt and the other under the negative prompt. At scale 1 the negative branch has no effect,
    as in sampling with a model that was distilled to need no guidance.

    Args:
        positive: [B, ...].
        negative: [B, ...].
        scale: omega + 1 where guidance is written (omega + 1) * positive - omega * negative.

    Raises:
        ShapeError: The two differ in shape.

    Source: classifier-free guidance (Ho & Salimans, 2022); its use with a negative network,
        Diffusion-NPO (Wang et al., 2025).
    """
    require_same_shape(positive=positive, negative=negative)
    return negative + scale * (positive - negative)


@torch.no_grad()
def truncated_rollout(
    latents: Tensor,
    start_indices: Sequence[int],
    conditional: Denoiser,
    unconditional: Denoiser,
    schedule: Tensor,
    grid: Sequence[int],
    *,
    guidance: float = -1.0,
    max_moves: int = 5,
) -> RolloutEnd:
    """A few DDIM moves of the teacher towards the clean latent, and its estimate from there.

    Each turn estimates the clean latent of every row with the noise

        e = conditional + guidance * (conditional - unconditional)

    and moves the row one level down, from the lowest level of the grid to timestep 0. After
    `max_moves` moves one more turn gives the estimates. A row at the bottom stays there, but its
    estimate is made anew as long as others move; once all rows are at the bottom, the loop ends
    without a further turn, and the estimates are those that the last move was made with. So the
    target of a row that comes to the bottom depends on its batch, as in the released code.

    Args:
        latents: [B, ...], at the level of each row's start.
        start_indices: [B], places in the grid.
        conditional: Teacher under the prompt; not called at guidance -1, where it cancels out.
        unconditional: Teacher under the empty prompt; not called at guidance 0.
        schedule: [T], alpha_bar of each timestep.
        grid: Of `rollout_grid`.
        guidance: w; -1 is the unconditional answer, below it pushes away from the prompt.
            Source: Self-NPO's code, -1 for SD1.5 and -5 for SDXL.
        max_moves: K, >= 0. Source: Self-NPO, 5.

    Raises:
        ShapeError: Not one start for each row, a start outside the grid, a grid beyond the
            schedule, or a negative number of moves.

    Source: Self-NPO (Wang et al., 2026), truncated fine-tuning as its code runs it.
    """
    _require_starts(latents, start_indices, schedule, grid, max_moves)
    levels = torch.tensor([0, *grid], device=latents.device)
    places = torch.tensor(start_indices, device=latents.device) + 1  # 0 is the bottom
    num_turns = min(max(start_indices) + 1, max_moves + 1)
    latents = at_least_float32(latents)
    for turn in range(num_turns):
        noise = _teacher_noise(latents, levels[places], conditional, unconditional, guidance)
        bars = schedule[levels[places].to(schedule.device)]
        estimate = clean_estimate(latents, noise, bars)
        if turn < max_moves:
            places = (places - 1).clamp(min=0)  # from bottom to bottom a move changes nothing
            next_bars = schedule[levels[places].to(schedule.device)]
            latents = ddim_move(latents, noise, bars, next_bars)
    return RolloutEnd(latents, levels[places], estimate, num_turns)


def self_npo_loss(
    student_noise: Tensor,
    noisy: Tensor,
    target: Tensor,
    alpha_bars: Tensor,
    *,
    loss_type: Literal["huber", "l2"] = "huber",
    huber_c: float = 0.001,
) -> TruncatedLoss:
    """Bring the student's clean estimate to that of the truncated rollout.

        d     = (noisy - sigma * student_noise) / alpha - target
        huber = mean(sqrt(d^2 + huber_c^2) - huber_c)
        l2    = mean(d^2)

    Args:
        student_noise: [B, ...], predicted at `noisy`; carries gradient.
        noisy: [B, ...], of `noise_further`; detached.
        target: [B, ...], `clean_estimate` of the rollout; detached.
        alpha_bars: [B], at the level of `noisy`.
        loss_type: `huber` as in the released code, `l2` as in the paper.
        huber_c: Where the loss turns from a square into an absolute value, > 0.

    Returns:
        Loss per latent [B], the mean over its elements, and the student's clean estimate.

    Raises:
        ShapeError: The tensors differ in shape, `alpha_bars` is not [B], `huber_c` is not
            positive or the loss type is unknown.

    Source: Self-NPO (Wang et al., 2026); huber from its code.
    """
    require_positive(huber_c=huber_c)
    require_same_shape(student_noise=student_noise, noisy=noisy, target=target)
    estimate = clean_estimate(noisy.detach(), student_noise, alpha_bars)
    gaps = estimate - target.detach()
    match loss_type:
        case "huber":
            distances = (gaps.square() + huber_c**2).sqrt() - huber_c
        case "l2":
            distances = gaps.square()
        case _:
            raise ShapeError(f"loss_type is {loss_type!r}, expected 'huber' or 'l2'")
    return TruncatedLoss(loss=distances.flatten(1).mean(-1), clean_estimate=estimate.detach())


def moving_average(
    teacher: Mapping[str, Tensor], student: Mapping[str, Tensor], *, rate: float = 0.999
) -> dict[str, Tensor]:
    """The teacher's next weights: rate * teacher + (1 - rate) * student.

    Args:
        teacher: Weights by name.
        student: The same names and shapes.
        rate: In [0, 1]; 1 leaves the teacher as it is, the frozen reference of the paper.
            Source: Self-NPO's code.

    Returns:
        New tensors, detached.

    Raises:
        ShapeError: Other names or shapes, or a rate outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ShapeError(f"rate is {rate}, expected a number from 0 to 1")
    _require_same_weights(teacher=teacher, student=student)
    return {
        name: rate * weights.detach() + (1 - rate) * student[name].detach()
        for name, weights in teacher.items()
    }


def merged_negative(
    base: Mapping[str, Tensor],
    positive: Mapping[str, Tensor],
    negative: Mapping[str, Tensor],
    *,
    merge_weight: float = 0.0,
) -> dict[str, Tensor]:
    """A negative network near the positive one: its own weights plus the positive one's offset.

        weights = negative + (1 - merge_weight) * (positive - base)

    The nearer the two, the more alike their errors, and the less guidance adds them up.

    Args:
        base: Weights that the other two were trained from, by name.
        positive: Weights of the network that is sampled from.
        negative: Weights trained by Self-NPO or Diffusion-NPO.
        merge_weight: m, in [0, 1]; 0 keeps the whole offset, 1 drops it. In the paper's terms
            a = 1 - m and b = 1.

    Returns:
        New tensors, detached.

    Raises:
        ShapeError: Other names or shapes, or a weight outside [0, 1].

    Source: Diffusion-NPO (Wang et al., 2025), the released code.
    """
    if not 0 <= merge_weight <= 1:
        raise ShapeError(f"merge_weight is {merge_weight}, expected a number from 0 to 1")
    _require_same_weights(base=base, positive=positive)
    _require_same_weights(base=base, negative=negative)
    return {
        name: negative[name].detach()
        + (1 - merge_weight) * (positive[name].detach() - weights.detach())
        for name, weights in base.items()
    }


def _teacher_noise(
    latents: Tensor,
    timesteps: Tensor,
    conditional: Denoiser,
    unconditional: Denoiser,
    guidance: float,
) -> Tensor:
    if guidance == -1:
        return unconditional(latents, timesteps)
    if guidance == 0:
        return conditional(latents, timesteps)
    return guided_noise(
        conditional(latents, timesteps), unconditional(latents, timesteps), scale=guidance + 1
    )


def _require_starts(
    latents: Tensor,
    start_indices: Sequence[int],
    schedule: Tensor,
    grid: Sequence[int],
    max_moves: int,
) -> None:
    if not start_indices or len(start_indices) != len(latents):
        raise ShapeError(
            f"expected one start for each latent, found {len(start_indices)} start_indices, "
            f"latents {list(latents.shape)}"
        )
    for row, index in enumerate(start_indices):
        if not 0 <= index < len(grid):
            raise ShapeError(f"start_indices[{row}] is {index}, expected 0 to {len(grid) - 1}")
    if max(grid) >= len(schedule):
        raise ShapeError(f"the grid ends at {max(grid)}, the schedule at {len(schedule) - 1}")
    if max_moves < 0:
        raise ShapeError(f"max_moves is {max_moves}, expected at least 0")


def _require_same_weights(**networks: Mapping[str, Tensor]) -> None:
    (first_name, first), (second_name, second) = networks.items()
    for name in sorted(first.keys() | second.keys()):
        shapes = [
            list(weights[name].shape) if name in weights else "missing"
            for weights in (first, second)
        ]
        if shapes[0] != shapes[1]:
            raise ShapeError(
                f"weight {name!r} is {shapes[0]} in {first_name} and {shapes[1]} in {second_name}; "
                f"both must be of one architecture"
            )
