"""Self-NPO: worked cases, identities, refused input."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.diffusion.negative import (
    RolloutEnd,
    guided_noise,
    merged_negative,
    moving_average,
    rollout_grid,
    self_npo_loss,
    truncated_rollout,
)
from mmalign.objectives.diffusion.schedule import (
    Denoiser,
    add_noise,
    clean_estimate,
    ddim_move,
    implied_noise,
    predicted_noise,
    scaled_linear_schedule,
)
from mmalign.testing.denoiser import LinearDenoiser
from mmalign.testing.golden import t64

SCHEDULE = scaled_linear_schedule()
GRID = rollout_grid()


def normal(seed: int, *shape: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def network(rows: int, condition_seed: int = 3) -> LinearDenoiser:
    return LinearDenoiser(
        M=0.2 * normal(0, 4, 4),
        v=normal(1, 4),
        K=normal(2, 2, 4),
        condition=normal(condition_seed, rows, 2),
    )


def unreachable(latents: Tensor, timesteps: Tensor) -> Tensor:
    raise AssertionError("this branch must not be called")


def rollout(
    starts: list[int],
    conditional: Denoiser | None = None,
    unconditional: Denoiser | None = None,
    **settings: Any,
) -> RolloutEnd:
    rows = len(starts)
    return truncated_rollout(
        normal(9, rows, 4),
        starts,
        conditional or network(rows),
        unconditional or network(rows, condition_seed=4),
        SCHEDULE,
        GRID,
        **settings,
    )


def test_grid_of_25_levels_worked_by_hand() -> None:
    assert GRID[:2] == (39, 79)
    assert GRID[-1] == 999
    assert len(GRID) == 25


def test_guidance_worked_by_hand() -> None:
    """1 + 7.5 * (3 - 1) = 16."""
    assert guided_noise(t64([[3.0]]), t64([[1.0]]), scale=7.5).item() == 16


def test_guidance_of_scale_1_or_of_equal_branches_is_the_positive_answer() -> None:
    positive, negative = normal(0, 2, 4), normal(1, 2, 4)
    assert_close(guided_noise(positive, negative, scale=1.0), positive)
    assert_close(guided_noise(positive, positive, scale=7.5), positive, rtol=0, atol=0)


def test_guidance_agrees_with_its_form_in_omega() -> None:
    positive, negative, omega = normal(0, 2, 4), normal(1, 2, 4), 6.5
    expected = (omega + 1) * positive - omega * negative
    assert_close(guided_noise(positive, negative, scale=omega + 1), expected)


def test_at_guidance_minus_1_the_prompt_is_not_looked_at() -> None:
    end = rollout([10, 3], conditional=unreachable, guidance=-1.0)
    near = rollout([10, 3], guidance=-1.0 + 1e-9)
    assert_close(end.clean_estimate, near.clean_estimate, rtol=1e-6, atol=1e-6)


def test_at_guidance_0_the_empty_prompt_is_not_looked_at() -> None:
    end = rollout([10, 3], unconditional=unreachable, guidance=0.0)
    near = rollout([10, 3], guidance=1e-9)
    assert_close(end.clean_estimate, near.clean_estimate, rtol=1e-6, atol=1e-6)


def test_five_moves_from_the_top_take_six_turns() -> None:
    end = rollout([24])
    assert end.timesteps.tolist() == [799]
    assert end.num_turns == 6


def test_from_the_lowest_level_one_turn_leads_to_the_bottom() -> None:
    end = rollout([0])
    assert end.timesteps.tolist() == [0]
    assert end.num_turns == 1


def test_a_row_alone_at_the_bottom_keeps_the_estimate_it_moved_with() -> None:
    start, teacher = normal(9, 1, 4), network(1, condition_seed=4)
    noise = teacher(start, torch.tensor([39]))
    end = rollout([0])
    assert_close(end.clean_estimate, clean_estimate(start, noise, SCHEDULE[[39]]))
    assert_close(end.latents, ddim_move(start, noise, SCHEDULE[[39]], SCHEDULE[[0]]))


def test_a_row_at_the_bottom_is_estimated_anew_while_others_move() -> None:
    end, teacher = rollout([0, 24]), network(2, condition_seed=4)
    starts = normal(9, 2, 4)
    noise = teacher(starts, torch.tensor([39, 999]))
    bottom = ddim_move(starts, noise, SCHEDULE[[39, 999]], SCHEDULE[[0, 959]])
    assert_close(end.latents[0], bottom[0])
    noise = teacher(bottom, torch.tensor([0, 0]))
    assert_close(end.clean_estimate[0], clean_estimate(bottom, noise, SCHEDULE[[0, 0]])[0])


def test_without_moves_the_estimate_is_that_of_the_start() -> None:
    end, teacher = rollout([7], max_moves=0), network(1, condition_seed=4)
    start = normal(9, 1, 4)
    assert end.timesteps.tolist() == [319]
    assert_close(end.latents, start, rtol=0, atol=0)
    noise = teacher(start, torch.tensor([319]))
    assert_close(end.clean_estimate, clean_estimate(start, noise, SCHEDULE[[319]]))


def test_a_teacher_that_knows_the_noise_finds_the_clean_latent() -> None:
    clean, noise = normal(5, 2, 4), normal(6, 2, 4)

    def denoiser(latents: Tensor, timesteps: Tensor) -> Tensor:
        return noise

    start = add_noise(clean, noise, SCHEDULE[[GRID[8], GRID[20]]])
    end = truncated_rollout(start, [8, 20], denoiser, denoiser, SCHEDULE, GRID)
    assert_close(end.clean_estimate, clean)


def test_a_velocity_teacher_serves_when_its_answers_are_converted() -> None:
    teacher = network(2, condition_seed=4)

    def converted(latents: Tensor, timesteps: Tensor) -> Tensor:
        bars = SCHEDULE[timesteps]
        clean = clean_estimate(latents, teacher(latents, timesteps), bars)
        alpha, sigma = bars.sqrt()[:, None], (1 - bars).sqrt()[:, None]
        velocity = alpha * teacher(latents, timesteps) - sigma * clean
        return predicted_noise(latents, velocity, bars, prediction_type="v_prediction")

    found = rollout([10, 3], unconditional=converted)
    assert_close(found.clean_estimate, rollout([10, 3]).clean_estimate)


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = network(1)
    teacher.M.requires_grad_()
    end = rollout([10], teacher, teacher, guidance=2.0)
    assert not end.latents.requires_grad
    assert not end.clean_estimate.requires_grad


@pytest.mark.parametrize(
    ("loss_type", "value"), [("huber", math.hypot(0.5, 0.001) - 0.001), ("l2", 0.25)]
)
def test_loss_worked_by_hand(loss_type: Any, value: float) -> None:
    """alpha 0.8, sigma 0.6: estimate (2 - 0.6 * 2) / 0.8 = 1, off from 0.5 by 0.5."""
    result = self_npo_loss(
        t64([[2.0]]), t64([[2.0]]), t64([[0.5]]), t64([0.64]), loss_type=loss_type
    )
    assert result.clean_estimate.item() == pytest.approx(1)
    assert result.loss.item() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("loss_type", ["huber", "l2"])
def test_the_noise_that_leads_to_the_target_has_no_loss_and_no_gradient(loss_type: Any) -> None:
    noisy, target, bars = normal(0, 2, 4), normal(1, 2, 4), SCHEDULE[[300, 900]]
    noise = implied_noise(noisy, target, bars).requires_grad_()
    result = self_npo_loss(noise, noisy, target, bars, loss_type=loss_type)
    (grad,) = torch.autograd.grad(result.loss.sum(), noise)
    assert_close(result.loss, torch.zeros(2, dtype=torch.float64))
    assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-9)


def test_no_gradient_reaches_the_target_or_the_latents() -> None:
    tensors = [normal(seed, 2, 4).requires_grad_() for seed in range(3)]
    result = self_npo_loss(*[*tensors, SCHEDULE[[300, 900]]])
    grads = torch.autograd.grad(result.loss.sum(), tensors, allow_unused=True)
    assert [grad is None for grad in grads] == [False, True, True]


def test_huber_tends_to_the_distance_from_far_and_to_the_square_from_near() -> None:
    zero, bars = torch.zeros(1, 1, dtype=torch.float64), t64([0.5])
    far, near = (
        self_npo_loss(noise, zero, zero, bars, huber_c=0.1).loss.item()
        for noise in (t64([[1e4]]), t64([[1e-4]]))
    )
    assert far == pytest.approx(1e4 - 0.1, rel=1e-9)
    assert near == pytest.approx(1e-8 / (2 * 0.1), rel=1e-5)


def test_teacher_comes_near_a_fixed_student_step_by_step() -> None:
    teacher, student = {"a": t64([0.0])}, {"a": t64([1.0])}
    for _ in range(10):
        teacher = moving_average(teacher, student, rate=0.9)
    assert teacher["a"].item() == pytest.approx(1 - 0.9**10, rel=1e-12)


def test_rate_1_freezes_the_teacher() -> None:
    teacher = moving_average({"a": t64([2.0])}, {"a": t64([1.0])}, rate=1.0)
    assert teacher["a"].item() == 2


@pytest.mark.parametrize(("merge_weight", "value"), [(1.0, 5.0), (0.0, 7.0), (0.5, 6.0)])
def test_merge_worked_by_hand(merge_weight: float, value: float) -> None:
    """Negative 5, positive 3, base 1: 5 + (1 - m) * 2."""
    networks = [{"a": t64([number])} for number in (1.0, 3.0, 5.0)]
    assert merged_negative(*networks, merge_weight=merge_weight)["a"].item() == value


def test_networks_of_other_architectures_are_refused_by_their_first_weight() -> None:
    one, other = {"a": t64([1.0]), "b": t64([1.0])}, {"a": t64([1.0]), "b": t64([[1.0]])}
    with pytest.raises(ShapeError, match=r"'b' is \[1\] in teacher and \[1, 1\] in student"):
        moving_average(one, other)
    with pytest.raises(ShapeError, match=r"'b' is \[1\] in base and missing in negative"):
        merged_negative(one, one, {"a": t64([1.0])})


@pytest.mark.parametrize(
    ("starts", "settings", "message"),
    [
        ([25], {}, r"start_indices\[0\] is 25, expected 0 to 24"),
        ([-1], {}, r"start_indices\[0\] is -1, expected 0 to 24"),
        ([0], {"max_moves": -1}, "max_moves is -1"),
    ],
)
def test_an_impossible_rollout_is_refused(
    starts: list[int], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        rollout(starts, **settings)


def test_starts_of_another_batch_or_grid_are_refused() -> None:
    start, teacher = normal(9, 2, 4), network(2)
    with pytest.raises(ShapeError, match=r"found 1 start_indices, latents \[2, 4\]"):
        truncated_rollout(start, [0], teacher, teacher, SCHEDULE, GRID)
    with pytest.raises(ShapeError, match="the grid ends at 999, the schedule at 499"):
        truncated_rollout(start, [0, 0], teacher, teacher, SCHEDULE[:500], GRID)
    with pytest.raises(ShapeError, match="num_levels is 0, expected 1 to 1000"):
        rollout_grid(num_levels=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"huber_c": 0.0}, "huber_c is 0.0, expected a positive"),
        ({"loss_type": "l1"}, "loss_type is 'l1', expected 'huber' or 'l2'"),
    ],
)
def test_unknown_losses_are_refused(settings: dict[str, Any], message: str) -> None:
    one = t64([[1.0]])
    with pytest.raises(ShapeError, match=message):
        self_npo_loss(one, one, one, t64([0.5]), **settings)


def test_weights_outside_0_to_1_are_refused() -> None:
    one = {"a": t64([1.0])}
    with pytest.raises(ShapeError, match=r"rate is 1\.1, expected a number from 0 to 1"):
        moving_average(one, one, rate=1.1)
    with pytest.raises(ShapeError, match=r"merge_weight is -0\.1, expected a number from 0 to 1"):
        merged_negative(one, one, one, merge_weight=-0.1)
