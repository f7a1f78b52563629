"""Alignment in steps: order, schedule, closed forms, betas and merging."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss, ipo_loss
from mmalign.objectives.schedule import (
    AlignmentStep,
    closed_form_margins,
    easy_to_hard_order,
    mean_margin,
    merged_parameters,
    reward_accuracy,
    step_beta,
    stepwise_schedule,
)
from mmalign.objectives.unpaired import kto_loss
from mmalign.testing.golden import t64


def test_accuracy_worked_by_hand() -> None:
    """Right, tied, wrong, right: a tie counts as wrong, so 2 of 4."""
    assert reward_accuracy([-1.0, -2.0, -5.0, 0.0], [-2.0, -2.0, -4.0, -1.0]) == 0.5


def test_mean_margin_worked_by_hand() -> None:
    """(-1 + 4) and (-6 + 5): their mean is 1."""
    assert mean_margin([-1.0, -6.0], [-4.0, -5.0]) == 1.0


def test_the_easiest_source_comes_first_and_ties_keep_their_order() -> None:
    assert easy_to_hard_order([0.4, 0.9, 0.4, 1.0]) == (3, 1, 0, 2)


def test_every_step_starts_from_the_last_result_and_is_held_by_it() -> None:
    assert stepwise_schedule([1, 0]) == (
        AlignmentStep(1, source=1, reference="M0", init="M0", output="M1"),
        AlignmentStep(2, source=0, reference="M1", init="M1", output="M2"),
    )


def test_one_source_is_one_run_from_the_first_model() -> None:
    assert stepwise_schedule([0]) == (AlignmentStep(1, 0, "M0", "M0", "M1"),)


def test_closed_form_worked_by_hand() -> None:
    """Shares 3/4 and 1/4 at beta 0.5 add 2 log 3 and take it away again."""
    found = closed_form_margins(1.0, [0.75, 0.25], beta=0.5)
    assert found == pytest.approx((1.0, 1.0 + 2 * math.log(3), 1.0), rel=1e-12)


def test_dpos_gradient_vanishes_at_the_closed_form_of_each_step() -> None:
    """Labels of which a share prefers the one response, the step's reference being the last."""
    shares, beta, zero = [0.8, 0.35], 0.2, t64([0.0])
    margins = closed_form_margins(-1.3, shares, beta=beta)
    for before, after, share in zip(margins, margins[1:], shares, strict=False):
        policy, ref = t64([after], requires_grad=True), t64([before])
        kept = dpo_loss(policy, zero, ref, zero, beta=beta).loss
        swapped = dpo_loss(zero, policy, zero, ref, beta=beta).loss
        loss = share * kept + (1 - share) * swapped
        assert torch.autograd.grad(loss.sum(), policy)[0].item() == pytest.approx(0, abs=1e-15)


def test_step_beta_worked_by_hand() -> None:
    """0.1 / 4 = 0.025."""
    assert step_beta(0.1, multiplier=4.0) == pytest.approx(0.025, rel=1e-15)


def test_a_second_step_starts_at_the_known_losses() -> None:
    beta = step_beta(0.1, multiplier=4.0)
    logps, other = t64([-3.0, -5.0]), t64([-4.0, -1.0])
    dpo = dpo_loss(logps, other, logps, other, beta=beta).loss
    ipo = ipo_loss(logps, other, logps, other, beta=beta).loss
    kto = kto_loss(
        logps, logps, t64([1, 0]), t64(0.0), beta=beta, desirable_weight=1.5, undesirable_weight=0.5
    ).loss
    assert_close(dpo, torch.full_like(dpo, math.log(2)), rtol=1e-12, atol=0)
    assert_close(ipo, torch.full_like(ipo, 1 / (4 * beta**2)), rtol=1e-12, atol=0)
    assert kto.mean().item() == pytest.approx((1.5 + 0.5) / 4, rel=1e-12)


def test_merging_worked_by_hand() -> None:
    """A quarter of (4, 0) and three quarters of (0, 8): (1, 6)."""
    helpful, safe = {"w": t64([4.0, 0.0])}, {"w": t64([0.0, 8.0])}
    merged = merged_parameters(helpful, safe, weight_helpful=0.25)
    assert merged["w"].tolist() == [1.0, 6.0]


def test_the_ends_of_merging_are_the_two_models() -> None:
    helpful, safe = {"w": t64([0.1, -7.0])}, {"w": t64([0.3, 8.0])}
    assert torch.equal(merged_parameters(helpful, safe, weight_helpful=1.0)["w"], helpful["w"])
    assert torch.equal(merged_parameters(helpful, safe, weight_helpful=0.0)["w"], safe["w"])


def test_half_precision_is_merged_in_float32() -> None:
    """191.25 + 0.375 rounds to 192; with 191.25 rounded first to 191 it would be 191."""
    helpful = {"w": torch.tensor([255.0], dtype=torch.bfloat16)}
    safe = {"w": torch.tensor([1.5], dtype=torch.bfloat16)}
    merged = merged_parameters(helpful, safe, weight_helpful=0.75)["w"]
    assert merged.dtype == torch.bfloat16
    assert merged.item() == 192


def test_models_that_do_not_fit_are_not_merged() -> None:
    helpful = {"a": t64([1.0]), "b": t64([1.0])}
    with pytest.raises(ShapeError, match="in one model only: b"):
        merged_parameters(helpful, {"a": t64([1.0])}, weight_helpful=0.5)
    with pytest.raises(ShapeError, match=r"helpful a \[1\], safe a \[2\]"):
        merged_parameters({"a": t64([1.0])}, {"a": t64([1.0, 2.0])}, weight_helpful=0.5)
    with pytest.raises(ShapeError, match=r"safe a\[0\] is nan"):
        merged_parameters({"a": t64([1.0])}, {"a": t64([math.nan])}, weight_helpful=0.5)
    with pytest.raises(ShapeError, match=r"weight_helpful is 1\.5"):
        merged_parameters(helpful, helpful, weight_helpful=1.5)


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 chosen and 1 rejected"):
        reward_accuracy([1.0, 2.0], [1.0])
    with pytest.raises(ShapeError, match="0 chosen and 0 rejected"):
        mean_margin([], [])
    with pytest.raises(ShapeError, match="pair 1: rejected is nan"):
        mean_margin([1.0, 2.0], [1.0, math.nan])
    with pytest.raises(ShapeError, match=r"accuracies\[0\] is 1.5"):
        easy_to_hard_order([1.5])
    with pytest.raises(ShapeError, match=r"order is \[0, 2\], expected each of 0 to 1 once"):
        stepwise_schedule([0, 2])
    with pytest.raises(ShapeError, match=r"preferred_shares\[1\] is 1.0"):
        closed_form_margins(0.0, [0.5, 1.0], beta=0.1)
    with pytest.raises(ShapeError, match=r"multiplier is 0\.0, expected a positive"):
        step_beta(0.1, multiplier=0.0)
