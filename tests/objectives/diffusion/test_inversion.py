"""DDIM inversion: worked cases, identities, refused input."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.diffusion.inversion import (
    InversionMove,
    InversionPlan,
    InvertedLatents,
    aligned_plan,
    check_inversion,
    invert_ddim,
    legacy_plan,
)
from mmalign.objectives.diffusion.pairs import denoising_errors, diffusion_dpo_loss
from mmalign.objectives.diffusion.schedule import (
    add_noise,
    ddim_move,
    implied_noise,
    scaled_linear_schedule,
)
from mmalign.testing.denoiser import LinearDenoiser
from mmalign.testing.golden import t64

SCHEDULE = scaled_linear_schedule()


def normal(seed: int, *shape: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def network(seed: int = 0, rows: int = 3, *, of_latent: float = 0.2) -> LinearDenoiser:
    return LinearDenoiser(
        M=of_latent * normal(seed, 4, 4),
        v=normal(seed + 1, 4),
        K=normal(seed + 2, 2, 4),
        condition=normal(seed + 3, rows, 2),
    )


class Counting:
    """A denoiser that remembers what it was told."""

    def __init__(self, denoiser: LinearDenoiser) -> None:
        self._denoiser = denoiser
        self.labels: list[int] = []

    def __call__(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        self.labels.append(int(timesteps[0]))
        return self._denoiser(latents, timesteps)


def test_aligned_plan_worked_by_hand() -> None:
    """Stride 10 // 3 = 3 from level 1: index 1 goes to 1, then 4; index 0 only to 1."""
    plan = aligned_plan([1, 0], num_steps=3, offset=1, num_timesteps=10)
    assert plan.moves == (InversionMove(-2, 1, 1), InversionMove(1, 4, 4))
    assert plan.num_moves == (2, 1)
    assert plan.timesteps == (4, 1)


def test_legacy_plan_names_where_moves_begin_and_overshoots_the_timestep() -> None:
    plan = legacy_plan([500])
    assert [move.label for move in plan.moves] == [-99, 1, 101, 201, 301, 401]
    assert plan.moves[-1].to_level == 501
    assert plan.timesteps == (500,)


def test_legacy_moves_while_the_label_is_strictly_below_the_timestep() -> None:
    assert legacy_plan([1, 2, 101, 0]).num_moves == (1, 2, 2, 1)


@pytest.mark.parametrize("index", [0, 3])
def test_a_constant_network_finds_its_own_constant(index: int) -> None:
    constant = t64([[0.5, -1.0, 2.0]])

    def denoiser(latents: Tensor, timesteps: Tensor) -> Tensor:
        return constant

    found = invert_ddim(
        t64([[1.0, 2.0, 3.0]]), denoiser, SCHEDULE, aligned_plan([index]), set_alpha_to_one=True
    )
    assert_close(found.noise, constant)
    errors = denoising_errors(denoiser(found.noisy, torch.tensor([1])), found.noise)
    assert errors.item() < 1e-24


def test_one_move_from_the_clean_image_finds_the_answer_there() -> None:
    clean, denoiser = normal(9, 3, 4), network()
    plan = aligned_plan([0, 0, 0])
    found = invert_ddim(clean, denoiser, SCHEDULE, plan, set_alpha_to_one=True)
    assert_close(found.noise, denoiser(clean, torch.tensor([1, 1, 1])))


def test_two_moves_worked_step_by_step() -> None:
    clean, denoiser = normal(9, 3, 4), network()
    bars = [SCHEDULE[level].expand(3) for level in (0, 1, 101)]
    middle = ddim_move(clean, denoiser(clean, torch.tensor([1] * 3)), bars[0], bars[1])
    end = ddim_move(middle, denoiser(middle, torch.tensor([101] * 3)), bars[1], bars[2])
    found = invert_ddim(clean, denoiser, SCHEDULE, aligned_plan([1, 1, 1]))
    assert_close(found.noisy, end, rtol=0, atol=0)
    assert_close(found.noise, implied_noise(end, clean, bars[2]), rtol=0, atol=0)


@pytest.mark.parametrize("renoise", ["none", "every_step_avg", "last_only"])
@pytest.mark.parametrize(
    "plan_of", [aligned_plan, lambda indices: legacy_plan([k * 100 + 50 for k in indices])]
)
def test_a_batch_of_several_levels_equals_its_rows_alone(
    plan_of: Callable[[list[int]], InversionPlan], renoise: Any
) -> None:
    clean, indices, denoiser = normal(9, 3, 4), [2, 0, 6], network()
    whole = invert_ddim(clean, denoiser, SCHEDULE, plan_of(indices), renoise=renoise)
    for row, index in enumerate(indices):
        alone = LinearDenoiser(denoiser.M, denoiser.v, denoiser.K, denoiser.condition[row, None])
        found = invert_ddim(clean[row, None], alone, SCHEDULE, plan_of([index]), renoise=renoise)
        assert_close(whole.noisy[row], found.noisy[0])
        assert_close(whole.noise[row], found.noise[0])


@pytest.mark.parametrize(
    ("renoise", "calls"), [("none", 5), ("every_step_avg", 10), ("last_only", 6)]
)
def test_renoise_asks_the_network_again_under_the_same_label(renoise: Any, calls: int) -> None:
    denoiser = Counting(network())
    plan = aligned_plan([4, 4, 4])
    invert_ddim(normal(9, 3, 4), denoiser, SCHEDULE, plan, renoise=renoise)
    assert len(denoiser.labels) == calls
    assert set(denoiser.labels) == {1, 101, 201, 301, 401}
    assert denoiser.labels[-1] == 401


@pytest.mark.parametrize("renoise", ["every_step_avg", "last_only"])
def test_renoise_changes_nothing_for_a_network_blind_to_the_latent(renoise: Any) -> None:
    clean, denoiser, plan = normal(9, 3, 4), network(of_latent=0), aligned_plan([3, 1, 5])
    plain = invert_ddim(clean, denoiser, SCHEDULE, plan)
    corrected = invert_ddim(clean, denoiser, SCHEDULE, plan, renoise=renoise)
    assert_close(corrected.noisy, plain.noisy)


@pytest.mark.parametrize("renoise", ["every_step_avg", "last_only"])
def test_renoise_changes_the_latents_of_a_network_that_sees_them(renoise: Any) -> None:
    clean, denoiser, plan = normal(9, 3, 4), network(), aligned_plan([3, 1, 5])
    plain = invert_ddim(clean, denoiser, SCHEDULE, plan)
    corrected = invert_ddim(clean, denoiser, SCHEDULE, plan, renoise=renoise)
    assert (corrected.noisy - plain.noisy).abs().amin() > 1e-6


def test_eta_adds_noise_of_the_stated_variance() -> None:
    """One move, its noise all ones: the latent moves by eta * sqrt(v)."""
    clean, denoiser, plan = normal(9, 3, 4), network(), aligned_plan([0, 0, 0])
    ones = torch.ones(1, 3, 4, dtype=torch.float64)
    still = invert_ddim(clean, denoiser, SCHEDULE, plan)
    moved = invert_ddim(clean, denoiser, SCHEDULE, plan, eta=0.3, step_noise=ones)
    start, end = SCHEDULE[0], SCHEDULE[1]
    variance = (1 - start) / (1 - end) * (1 - end / start)
    assert_close(moved.noisy - still.noisy, 0.3 * variance.sqrt() * ones[0])


def test_without_eta_the_noise_does_not_matter() -> None:
    clean, denoiser, plan = normal(9, 3, 4), network(), aligned_plan([2, 2, 2])
    found = [
        invert_ddim(clean, denoiser, SCHEDULE, plan, step_noise=noise).noisy
        for noise in (None, normal(1, 3, 3, 4))
    ]
    assert_close(found[0], found[1], rtol=0, atol=0)


def test_both_sides_share_a_level_but_not_the_noise() -> None:
    denoiser, plan = network(), aligned_plan([2, 2, 2])
    sides = [invert_ddim(normal(seed, 3, 4), denoiser, SCHEDULE, plan) for seed in (8, 9)]
    assert (sides[0].noise - sides[1].noise).abs().amin() > 1e-6


def test_no_gradient_flows_through_the_inversion() -> None:
    denoiser = network()
    denoiser.M.requires_grad_()
    found = invert_ddim(normal(9, 3, 4), denoiser, SCHEDULE, aligned_plan([2, 2, 2]))
    assert not found.noisy.requires_grad
    assert not found.noise.requires_grad


def test_where_policy_equals_reference_the_loss_is_log_2() -> None:
    denoiser, plan = network(), aligned_plan([2, 2, 2])
    errors = []
    for seed in (8, 9):
        found = invert_ddim(normal(seed, 3, 4), denoiser, SCHEDULE, plan)
        answers = denoiser(found.noisy, torch.tensor(plan.timesteps))
        errors.append(denoising_errors(answers, found.noise))
    result = diffusion_dpo_loss(*errors, *errors, beta=2000.0)
    assert_close(result.loss, torch.full_like(result.loss, math.log(2)))


def test_random_noise_in_place_of_inversion_is_diffusion_dpo() -> None:
    clean, noise, bars = normal(8, 3, 4), normal(9, 3, 4), SCHEDULE[[1, 101, 901]]
    assert_close(implied_noise(add_noise(clean, noise, bars), clean, bars), noise)


@pytest.mark.parametrize("size", [0.4, 2.1, math.nan])
def test_noise_that_is_too_small_or_large_names_the_pair(size: float) -> None:
    noise = torch.stack([torch.ones(4), torch.full((4,), size)])
    with pytest.raises(ShapeError, match=r"pair 'b': the inversion to timestep 101 failed"):
        check_inversion(InvertedLatents(noise, noise), aligned_plan([0, 1]), ["a", "b"])


def test_noise_of_unit_size_passes() -> None:
    noise = torch.tensor([[1.5, -0.5]])
    check_inversion(InvertedLatents(noise, noise), aligned_plan([0]), ["a"])
    assert noise.square().mean().sqrt().item() == pytest.approx(1.118, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0, expected 1 to 1000"),
        ({"num_steps": 1001}, "num_steps is 1001, expected 1 to 1000"),
        ({"offset": -1}, "offset is -1, so the levels run from -1 to 899"),
        ({"offset": 100}, "levels run from 100 to 1000, expected to lie in 0 to 999"),
    ],
)
def test_a_grid_outside_the_schedule_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        aligned_plan([0], **settings)
    with pytest.raises(ShapeError, match=message):
        legacy_plan([0], **settings)


def test_a_level_outside_the_grid_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"step_indices\[1\] is 10, expected 0 to 9"):
        aligned_plan([0, 10])
    with pytest.raises(ShapeError, match=r"timesteps\[0\] is 1000, expected 0 to 999"):
        legacy_plan([1000])
    with pytest.raises(ShapeError, match="step_indices is empty"):
        aligned_plan([])


@pytest.mark.parametrize(
    ("rows", "schedule", "settings", "message"),
    [
        (2, SCHEDULE, {}, "the plan is for 2 rows, clean has 3"),
        (3, SCHEDULE[:101], {}, r"schedule is \[101\], expected one row of at least 102"),
        (3, SCHEDULE.flip(0), {}, "the schedule does not fall"),
        (3, SCHEDULE, {"eta": -0.1}, r"eta is -0\.1"),
        (3, SCHEDULE, {"eta": 0.1}, "step_noise must hold .* or more moves, found none"),
        (
            3,
            SCHEDULE,
            {"eta": 0.1, "step_noise": torch.zeros(1, 3, 4)},
            r"step_noise must hold .* or more moves, found \[1, 3, 4\]",
        ),
        (3, SCHEDULE, {"renoise": "first"}, "renoise is 'first', expected 'none'"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    rows: int, schedule: Tensor, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        invert_ddim(normal(9, 3, 4), network(), schedule, aligned_plan([1] * rows), **settings)
