"""DDIM inversion: the noised latents, and their noise, that really lead to given images.

InPO trains with `diffusion_dpo_loss` on them, the noise found being the target of both networks;
SmPO corrects every move by ReNoise. The stepping is written out here: what the schedulers of
diffusion libraries do with the same settings has changed between their versions.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmalign.errors import ShapeError
from mmalign.objectives.diffusion.schedule import Denoiser, ddim_move, implied_noise
from mmalign.objectives.sums import at_least_float32

__all__ = [
    "InversionMove",
    "InversionPlan",
    "InvertedLatents",
    "ReNoise",
    "aligned_plan",
    "check_inversion",
    "invert_ddim",
    "legacy_plan",
]

ReNoise = Literal["none", "every_step_avg", "last_only"]
"""Whether moves are corrected by the network's answer at the point where they lead."""


class InversionMove(NamedTuple):
    """One step of the inversion; a level below 0 is the clean image's."""

    from_level: int
    to_level: int
    label: int
    """Timestep that the network is told; below 0 in the first move of the legacy form."""


class InversionPlan(NamedTuple):
    """Which moves a batch makes."""

    moves: tuple[InversionMove, ...]
    """Of the rows that go furthest; every other row makes the first ones of these."""
    num_moves: tuple[int, ...]
    """[B], how many moves each row makes."""
    timesteps: tuple[int, ...]
    """[B], at which the row is trained."""


class InvertedLatents(NamedTuple):
    """What the inversion found; nothing of it carries gradient."""

    noisy: Tensor
    """[B, ...], the latent that both networks see."""
    noise: Tensor
    """[B, ...], tau: the noise between image and latent, the target of both networks."""


def aligned_plan(
    step_indices: Sequence[int], *, num_steps: int = 10, offset: int = 1, num_timesteps: int = 1000
) -> InversionPlan:
    """Inversion up to the very level that the row is trained at.

    Level i is offset + i * stride with stride = num_timesteps // num_steps. A row of index k
    moves from the clean image to level 0, then on to level k, the network being told where each
    move leads; it is trained at level k.

    Args:
        step_indices: k of each pair, [B], in 0 .. num_steps - 1; both sides share it.
        num_steps: n, levels of the grid. Source: InPO's code, 10; SmPO, 9.
        offset: o, timestep of the lowest level.
        num_timesteps: T.

    Raises:
        ShapeError: A grid that does not fit into the schedule, or an index outside it.

    Source: InPO (Lu et al., 2025), without the level mismatch of the released code.
    """
    stride = _stride(num_steps, offset, num_timesteps)
    _require_inside("step_indices", step_indices, num_steps)
    levels = [offset + index * stride for index in range(max(step_indices) + 1)]
    return InversionPlan(
        moves=tuple(InversionMove(level - stride, level, label=level) for level in levels),
        num_moves=tuple(index + 1 for index in step_indices),
        timesteps=tuple(levels[index] for index in step_indices),
    )


def legacy_plan(
    timesteps: Sequence[int], *, num_steps: int = 10, offset: int = 1, num_timesteps: int = 1000
) -> InversionPlan:
    """Inversion as the released codes run it, under diffusers 0.20.

    The network is told where a move begins, so that the first label is below 0; a row moves as
    long as the label is below its timestep (strictly) and is then trained at the timestep,
    although its latent stands at a level up to stride - 1 above. For reproduction only. At the
    timesteps 0 and 1 the noise found is a difference divided by almost nothing.

    Args:
        timesteps: Of each pair, [B], in 0 .. num_timesteps - 1; both sides share it.
        num_steps: n, levels of the grid.
        offset: o, timestep of the lowest level.
        num_timesteps: T.

    Raises:
        ShapeError: A grid that does not fit into the schedule, or a timestep outside it.

    Source: InPO (Lu et al., 2025), the released code.
    """
    stride = _stride(num_steps, offset, num_timesteps)
    _require_inside("timesteps", timesteps, num_timesteps)
    labels = [offset + (index - 1) * stride for index in range(num_steps)]
    num_moves = tuple(sum(label < timestep for label in labels) for timestep in timesteps)
    return InversionPlan(
        moves=tuple(
            InversionMove(label, label + stride, label=label) for label in labels[: max(num_moves)]
        ),
        num_moves=num_moves,
        timesteps=tuple(timesteps),
    )


@torch.no_grad()
def invert_ddim(
    clean: Tensor,
    denoiser: Denoiser,
    schedule: Tensor,
    plan: InversionPlan,
    *,
    set_alpha_to_one: bool = False,
    eta: float = 0.0,
    step_noise: Tensor | None = None,
    renoise: ReNoise = "none",
) -> InvertedLatents:
    """The noised latents from which DDIM sampling leads back to these images.

    Each move is `ddim_move` with the answer e of the denoiser at the latent it starts from. With
    ReNoise, e' is the answer, under the same label, at the latent that this move leads to:

        every_step_avg: every move is made with (e + e') / 2, at twice the network calls
        last_only:      the last move of a row is made with e'

    With eta, noise of the variance eta^2 * v is added after every (corrected) move:

        v = (1 - a_from) / (1 - a_to) * (1 - a_to / a_from)

    A row that has made its moves stays where it is while the others go on.

    Args:
        clean: [B, ...], latents of the images.
        denoiser: Policy or reference, conditional, without guidance: with more than the plain
            answer the inversion diverges. Latents found by the reference can be stored.
        schedule: [T], alpha_bar of each timestep, falling.
        plan: The moves, of `aligned_plan` or `legacy_plan`.
        set_alpha_to_one: alpha_bar of the clean image is 1, else that of timestep 0, as in the
            checkpoints of Stable Diffusion.
        eta: Scale of the added noise, >= 0. Source: 0 in the paper's form and in SmPO; InPO's
            code has 0.1.
        step_noise: [num_moves, B, ...], standard normal, for each move; needed where eta > 0.
        renoise: `every_step_avg` is SmPO's released code; `last_only` a reconstruction of its
            paper.

    Returns:
        Latents and noise [B, ...], detached, at least float32.

    Raises:
        ShapeError: The plan is of another batch, the schedule does not fall or is too short, or
            eta is negative or comes without noise.

    Source: InPO (Lu et al., 2025); ReNoise (Garibi et al., 2024) as SmPO (Lu et al.,
        2025) uses it.
    """
    if renoise not in ("none", "every_step_avg", "last_only"):
        raise ShapeError(
            f"renoise is {renoise!r}, expected 'none', 'every_step_avg' or 'last_only'"
        )
    _require_fit(clean, schedule, plan)
    _require_step_noise(clean, plan, eta, step_noise)
    latents = at_least_float32(clean)
    counts = torch.tensor(plan.num_moves, device=clean.device)
    for number, move in enumerate(plan.moves):
        start = _alpha_bar(schedule, move.from_level, set_alpha_to_one)
        end = _alpha_bar(schedule, move.to_level, set_alpha_to_one)
        bars = [schedule.new_full(counts.shape, level) for level in (start, end)]
        is_last = _per_row(counts == number + 1, clean)
        moved = _move(latents, denoiser, move.label, bars, renoise, is_last)
        if step_noise is not None and eta > 0:
            moved = moved + eta * _added_variance(start, end) ** 0.5 * step_noise[number]
        latents = torch.where(_per_row(counts > number, clean), moved, latents)
    noise = implied_noise(latents, at_least_float32(clean), schedule[list(plan.timesteps)])
    return InvertedLatents(noisy=latents, noise=noise)


def check_inversion(
    inverted: InvertedLatents, plan: InversionPlan, record_ids: Sequence[str]
) -> None:
    """Stop where the noise found is not of the size of noise. Waits for the device.

    Args:
        inverted: One side of a batch.
        plan: Its moves.
        record_ids: The batch's pairs, for the message.

    Raises:
        ShapeError: The root mean square of a row's noise is NaN or outside [0.5, 2].
    """
    sizes = inverted.noise.square().flatten(1).mean(-1).sqrt().tolist()
    for record_id, timestep, size in zip(record_ids, plan.timesteps, sizes, strict=True):
        if not 0.5 <= size <= 2:
            raise ShapeError(
                f"pair {record_id!r}: the inversion to timestep {timestep} failed, its noise has "
                f"a root mean square of {size:.3g}, expected 0.5 to 2; drop the pair or raise "
                f"num_steps"
            )


def _move(
    latents: Tensor,
    denoiser: Denoiser,
    label: int,
    bars: Sequence[Tensor],
    renoise: ReNoise,
    is_last: Tensor,
) -> Tensor:
    labels = torch.full((len(latents),), label, device=latents.device)
    noise = denoiser(latents, labels)
    moved = ddim_move(latents, noise, *bars)
    if renoise == "every_step_avg":
        return ddim_move(latents, (noise + denoiser(moved, labels)) / 2, *bars)
    if renoise == "last_only" and is_last.any():
        return torch.where(is_last, ddim_move(latents, denoiser(moved, labels), *bars), moved)
    return moved


def _alpha_bar(schedule: Tensor, level: int, set_alpha_to_one: bool) -> float:
    if level < 0 and set_alpha_to_one:
        return 1.0
    return float(schedule[max(level, 0)])


def _added_variance(from_alpha_bar: float, to_alpha_bar: float) -> float:
    return (1 - from_alpha_bar) / (1 - to_alpha_bar) * (1 - to_alpha_bar / from_alpha_bar)


def _per_row(values: Tensor, latents: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (latents.ndim - 1))


def _stride(num_steps: int, offset: int, num_timesteps: int) -> int:
    if not 1 <= num_steps <= num_timesteps:
        raise ShapeError(f"num_steps is {num_steps}, expected 1 to {num_timesteps}")
    stride = num_timesteps // num_steps
    last = offset + (num_steps - 1) * stride
    if offset < 0 or last >= num_timesteps:
        raise ShapeError(
            f"offset is {offset}, so the levels run from {offset} to {last}, expected to lie in 0 "
            f"to {num_timesteps - 1}"
        )
    return stride


def _require_inside(name: str, values: Sequence[int], end: int) -> None:
    if not values:
        raise ShapeError(f"{name} is empty, expected one number for each pair")
    for row, value in enumerate(values):
        if not 0 <= value < end:
            raise ShapeError(f"{name}[{row}] is {value}, expected 0 to {end - 1}")


def _require_fit(clean: Tensor, schedule: Tensor, plan: InversionPlan) -> None:
    if len(plan.num_moves) != len(clean):
        raise ShapeError(f"the plan is for {len(plan.num_moves)} rows, clean has {len(clean)}")
    needed = 1 + max([*plan.timesteps, *(move.to_level for move in plan.moves)])
    if schedule.ndim != 1 or len(schedule) < needed:
        raise ShapeError(
            f"schedule is {list(schedule.shape)}, expected one row of at least {needed} timesteps"
        )
    if not bool((schedule.diff() < 0).all()):
        raise ShapeError("the schedule does not fall from timestep to timestep")


def _require_step_noise(
    clean: Tensor, plan: InversionPlan, eta: float, step_noise: Tensor | None
) -> None:
    if not 0 <= eta < math.inf:
        raise ShapeError(f"eta is {eta}, expected a finite number, at least 0")
    if eta == 0:
        return
    found = [] if step_noise is None else list(step_noise.shape)
    if not found or found[1:] != list(clean.shape) or found[0] < len(plan.moves):
        raise ShapeError(
            f"eta is {eta}, so step_noise must hold [{len(plan.moves)}, *{list(clean.shape)}] or "
            f"more moves, found {found or 'none'}"
        )
