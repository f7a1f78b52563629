"""Noise schedule and its algebra: worked cases, identities, refused input."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.diffusion.pairs import denoising_errors
from mmalign.objectives.diffusion.schedule import (
    add_noise,
    clean_estimate,
    ddim_move,
    denoising_target,
    flow_add_noise,
    flow_target,
    implied_noise,
    noise_further,
    noise_scales,
    predicted_noise,
    scaled_linear_schedule,
)
from mmalign.testing.golden import t64

SCHEDULE = scaled_linear_schedule()


def latents(seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 4, generator=source, dtype=torch.float64)


def test_schedule_worked_by_hand() -> None:
    """Roots 0.5, 0.65, 0.8: betas 0.25, 0.4225, 0.64: products 0.75, 0.433125, 0.155925."""
    schedule = scaled_linear_schedule(num_timesteps=3, beta_start=0.25, beta_end=0.64)
    assert_close(schedule, t64([0.75, 0.433125, 0.155925]))


def test_schedule_of_stable_diffusion_falls_from_nearly_1_to_nearly_0() -> None:
    assert SCHEDULE[0].item() == pytest.approx(0.99915, rel=1e-12)
    assert SCHEDULE[-1].item() == pytest.approx(0.0047, abs=5e-5)
    assert (SCHEDULE.diff() < 0).all()


def test_noising_worked_by_hand() -> None:
    """alpha 0.8, sigma 0.6, clean 1, noise 2: latent 0.8 + 1.2 = 2, velocity 1.6 - 0.6 = 1."""
    bars, clean, noise = t64([0.64]), t64([[1.0]]), t64([[2.0]])
    assert_close(add_noise(clean, noise, bars), t64([[2.0]]))
    velocity = denoising_target(clean, noise, bars, prediction_type="v_prediction")
    assert_close(velocity, t64([[1.0]]))
    assert denoising_target(clean, noise, bars, prediction_type="epsilon") is noise


def test_noise_and_clean_latent_are_found_again() -> None:
    clean, noise, bars = latents(0), latents(1), SCHEDULE[[1, 500, 999]]
    noisy = add_noise(clean, noise, bars)
    assert_close(clean_estimate(noisy, noise, bars), clean)
    assert_close(implied_noise(noisy, clean, bars), noise)


def test_a_velocity_stands_for_the_noise_that_it_was_made_of() -> None:
    clean, noise, bars = latents(0), latents(1), SCHEDULE[[1, 500, 999]]
    velocity = denoising_target(clean, noise, bars, prediction_type="v_prediction")
    noisy = add_noise(clean, noise, bars)
    found = predicted_noise(noisy, velocity, bars, prediction_type="v_prediction")
    assert_close(found, noise)


def test_velocity_errors_are_noise_errors_over_alpha_bar() -> None:
    clean, noise, prediction, bars = latents(0), latents(1), latents(2), SCHEDULE[[1, 500, 999]]
    noisy = add_noise(clean, noise, bars)
    noise_errors = denoising_errors(
        predicted_noise(noisy, prediction, bars, prediction_type="v_prediction"), noise
    )
    velocity = denoising_target(clean, noise, bars, prediction_type="v_prediction")
    assert_close(denoising_errors(prediction, velocity) * bars, noise_errors)


def test_ddim_move_there_and_back_restores_the_latent() -> None:
    start, noise = latents(0), latents(1)
    low, high = SCHEDULE[[1, 201, 0]], SCHEDULE[[101, 301, 999]]
    assert_close(ddim_move(ddim_move(start, noise, low, high), noise, high, low), start)


def test_ddim_move_with_the_true_noise_stays_on_the_noised_latents() -> None:
    clean, noise = latents(0), latents(1)
    low, high = SCHEDULE[[1, 201, 0]], SCHEDULE[[101, 301, 999]]
    moved = ddim_move(add_noise(clean, noise, low), noise, low, high)
    assert_close(moved, add_noise(clean, noise, high))


def test_noising_further_agrees_with_its_form_in_noise_to_signal_ratios() -> None:
    state, noise = latents(0), latents(1)
    low, high = SCHEDULE[[0, 201, 799]], SCHEDULE[[1, 600, 999]]
    before, after = (noise_scales(bars, state) for bars in (low, high))
    ratios = [scales.sigma / scales.alpha for scales in (before, after)]
    expected = after.alpha * (
        state / before.alpha + (ratios[1].square() - ratios[0].square()).sqrt() * noise
    )
    assert_close(noise_further(state, noise, low, high), expected)


def test_noising_further_adds_up_to_the_variance_of_the_later_level() -> None:
    low, high = t64([0.9]), t64([0.4])
    state, noise = t64([[1.0]]), t64([[1.0]])
    ratio = noise_further(state, 0 * noise, low, high)
    added = noise_further(0 * state, noise, low, high)
    assert_close(ratio.square() * (1 - low) + added.square(), 1 - high[:, None])


def test_half_precision_latents_keep_the_digits_of_the_first_level() -> None:
    scales = noise_scales(SCHEDULE[:1], torch.zeros(1, 4, dtype=torch.float16))
    assert scales.sigma.dtype == torch.float32
    assert scales.sigma.item() == pytest.approx(0.00085**0.5, rel=1e-6)


def test_a_rectified_flow_runs_from_clean_to_noise_at_its_target_velocity() -> None:
    clean, noise = latents(0), latents(1)
    at = [flow_add_noise(clean, noise, t64([time] * 3)) for time in (0.0, 0.25, 1.0)]
    assert_close(at[0], clean)
    assert_close(at[2], noise)
    assert_close((at[1] - at[0]) / 0.25, flow_target(clean, noise))


def test_shapes_that_would_broadcast_are_refused() -> None:
    clean, bars = latents(0), SCHEDULE[:3]
    with pytest.raises(ShapeError, match=r"clean \[3, 2, 4\], noise \[1, 2, 4\]"):
        add_noise(clean, clean[:1], bars)
    with pytest.raises(ShapeError, match=r"alpha_bars \[3, 1\], latents \[3, 2, 4\]"):
        add_noise(clean, clean, bars[:, None])
    with pytest.raises(ShapeError, match=r"times \[1\], clean \[3, 2, 4\]"):
        flow_add_noise(clean, clean, t64([0.5]))


def test_an_unknown_prediction_type_is_refused() -> None:
    clean, bars = latents(0), SCHEDULE[:3]
    with pytest.raises(ShapeError, match="prediction_type is 'sample', expected 'epsilon' or"):
        denoising_target(clean, clean, bars, prediction_type="sample")  # type: ignore[arg-type]  # refused


def test_noising_backwards_is_refused() -> None:
    state = latents(0)
    with pytest.raises(ShapeError, match=r"to_alpha_bars\[1\] is .*expected less than"):
        noise_further(state, state, SCHEDULE[[0, 9, 0]], SCHEDULE[[1, 9, 1]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_timesteps": 0}, "num_timesteps is 0"), ({"beta_end": 1.0}, r"beta_end is 1\.0")],
)
def test_an_impossible_schedule_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        scaled_linear_schedule(**settings)  # type: ignore[arg-type]  # one is an integer
