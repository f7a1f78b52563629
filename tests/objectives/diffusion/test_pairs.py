"""Diffusion-DPO: worked cases, identities and limits, refused input."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives import PreferenceLoss, dpo_loss, hinge_loss, ipo_loss
from mmalign.objectives.diffusion.pairs import (
    ImageOrder,
    denoising_errors,
    diffusion_dpo_loss,
    implicit_accuracy,
    order_by_label,
)
from mmalign.testing.golden import t64


def normal(seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 4, generator=source, dtype=torch.float64)


def loss_of(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    target: Tensor,
    **settings: Any,
) -> PreferenceLoss:
    predictions = (policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    errors = [denoising_errors(prediction, target) for prediction in predictions]
    return diffusion_dpo_loss(*errors, **{"beta": 2.0} | settings)


def test_errors_worked_by_hand() -> None:
    """Gaps 1, 0, 2, 1 and 0, 0, 0, 2: means 6 / 4 and 4 / 4, not sums."""
    errors = denoising_errors(
        t64([[[1, 0], [2, 1]], [[0, 0], [0, 2]]]), torch.zeros(2, 2, 2, dtype=torch.float64)
    )
    assert errors.tolist() == [1.5, 1.0]


def test_loss_worked_by_hand() -> None:
    """Rewards -0.5 * 4 * (1 - 1.5) = 1 and -0.5 * 4 * (2 - 1.5) = -1, so loss = log(1 + e^-2)."""
    result = diffusion_dpo_loss(t64([1.0]), t64([2.0]), t64([1.5]), t64([1.5]), beta=4.0)
    assert result.chosen_rewards.item() == 1
    assert result.rejected_rewards.item() == -1
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-2)), rel=1e-12)
    assert {name: value.item() for name, value in result.metrics.items()} == {
        "policy_error": 1.5,
        "ref_error": 1.5,
    }


def test_at_equality_the_loss_is_log_2_and_its_gradient_is_not_zero() -> None:
    policy = [normal(0).requires_grad_(), normal(1).requires_grad_()]
    result = loss_of(*[*policy, normal(0), normal(1), normal(2)])
    assert_close(result.loss, torch.full_like(result.loss, math.log(2)))
    assert implicit_accuracy(result.chosen_rewards, result.rejected_rewards).item() == 0
    ties = implicit_accuracy(result.chosen_rewards, result.rejected_rewards, ties="half")
    assert ties.item() == 0.5
    for grad in torch.autograd.grad(result.loss.sum(), policy):
        assert grad.abs().max() > 0.1


def test_loss_tends_to_log_2_with_beta() -> None:
    result = loss_of(*(normal(seed) for seed in range(5)), beta=1e-9)
    assert_close(result.loss, torch.full_like(result.loss, math.log(2)), rtol=0, atol=1e-8)


def test_exchanging_the_sides_negates_the_margin() -> None:
    there = loss_of(normal(0), normal(1), normal(2), normal(3), normal(4))
    back = loss_of(normal(1), normal(0), normal(3), normal(2), normal(4))
    margins = there.chosen_rewards - there.rejected_rewards
    assert_close(back.chosen_rewards - back.rejected_rewards, -margins, rtol=0, atol=0)
    assert_close(back.loss - there.loss, margins)


def test_half_scale_at_twice_the_beta_is_plain_scale() -> None:
    predictions = [normal(seed) for seed in range(5)]
    half = loss_of(*predictions, beta=3.0, scale_convention="half")
    plain = loss_of(*predictions, beta=1.5, scale_convention="plain")
    assert_close(half.loss, plain.loss, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("ranking", "loss"), [("sigmoid", dpo_loss), ("hinge", hinge_loss), ("ipo", ipo_loss)]
)
def test_minus_the_plain_error_stands_for_a_log_probability(ranking: str, loss: Any) -> None:
    errors = [normal(seed).square().mean((1, 2)) for seed in range(4)]
    found = diffusion_dpo_loss(*errors, beta=0.7, scale_convention="plain", ranking=ranking)  # type: ignore[arg-type]  # from a parameter
    expected = loss(*(-error for error in errors), beta=0.7)
    assert_close(found.loss, expected.loss, rtol=0, atol=0)


def test_a_shift_of_all_predictions_and_the_target_changes_nothing() -> None:
    tensors = [normal(seed) for seed in range(5)]
    shifted = [tensor + normal(9) for tensor in tensors]
    assert_close(loss_of(*shifted).loss, loss_of(*tensors).loss)


def test_no_gradient_reaches_the_reference_or_the_target() -> None:
    tensors = [normal(seed).requires_grad_() for seed in range(5)]
    grads = torch.autograd.grad(loss_of(*tensors).loss.sum(), tensors, allow_unused=True)
    assert [grad is None for grad in grads] == [False, False, True, True, True]


def test_gradient_agrees_with_finite_differences() -> None:
    policy = (normal(0).requires_grad_(), normal(1).requires_grad_())

    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        return loss_of(chosen, rejected, normal(2), normal(3), normal(4)).loss

    assert torch.autograd.gradcheck(loss, policy)


def test_half_precision_errors_are_taken_in_float32() -> None:
    """300 squared is beyond the largest number of float16."""
    predictions = torch.full((1, 2), 300.0, dtype=torch.float16)
    errors = denoising_errors(predictions, torch.zeros_like(predictions))
    assert errors.dtype == torch.float32
    assert errors.tolist() == [90000.0]


def test_accuracy_worked_by_hand() -> None:
    """Right, wrong, right and a tie: 2 / 4, or 2.5 / 4 where ties count half."""
    chosen, rejected = t64([1.0, 0.0, 3.0, 2.0]), t64([0.0, 1.0, -1.0, 2.0])
    assert implicit_accuracy(chosen, rejected).item() == 0.5
    assert implicit_accuracy(chosen, rejected, ties="half").item() == 0.625


def test_labels_order_the_images_and_ties_are_dropped() -> None:
    ordered = order_by_label([1.0, 0.5, 0.0])
    assert ordered.pairs == (ImageOrder(0, 0, 1), ImageOrder(2, 1, 0))
    assert ordered.num_ties == 1


@pytest.mark.parametrize("label", [0.7, -1.0, math.nan])
def test_a_label_between_the_preferences_is_refused(label: float) -> None:
    with pytest.raises(RecordError, match=f"row 1: label_0 is {label}, expected 1"):
        order_by_label([1.0, label])


def test_nothing_but_ties_is_refused() -> None:
    with pytest.raises(RecordError, match="all 2 rows are ties"):
        order_by_label([0.5, 0.5])


def test_errors_of_other_shapes_are_refused() -> None:
    row, column = t64([1.0, 2.0]), t64([[1.0], [2.0]])
    with pytest.raises(ShapeError, match=r"ref_chosen_errors \[2, 1\]"):
        diffusion_dpo_loss(row, row, column, row, beta=1.0)
    with pytest.raises(ShapeError, match=r"predictions \[2, 1\], targets \[2\]"):
        denoising_errors(column, row)
    with pytest.raises(ShapeError, match=r"expected latents \[B, ...\], found predictions \[2\]"):
        denoising_errors(row, row)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0, expected a positive"),
        ({"beta": 1.0, "scale_convention": "double"}, "scale_convention is 'double'"),
        ({"beta": 1.0, "ranking": "kto"}, "ranking is 'kto', expected one of sigmoid, hinge"),
    ],
)
def test_unknown_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    row = t64([1.0])
    with pytest.raises(ShapeError, match=message):
        diffusion_dpo_loss(row, row, row, row, **settings)
