"""KTO: worked cases, its reference point, mismatched rows, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.unpaired import (
    balancing_undesirable_weight,
    kto_loss,
    kto_reference_point,
    mismatched_rows,
)
from mmalign.testing.golden import t64

LABELS = t64([1, 0, 1, 0])
LOG_RATIOS = t64([0.4, -1.0, 3.0, 2.0])
ZEROS = torch.zeros(4, dtype=torch.float64)


def kto(
    log_ratios: Tensor,
    labels: Tensor = LABELS,
    *,
    beta: float = 0.3,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """KTO's loss at these log-ratios above a reference point of 0.5."""
    return kto_loss(
        log_ratios,
        ZEROS,
        labels,
        t64(0.5),
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    ).loss


def gradient(log_ratios: Tensor) -> Tensor:
    policy = log_ratios.clone().requires_grad_()
    return torch.autograd.grad(kto(policy).sum(), policy)[0]


def test_worked_by_hand() -> None:
    """log 3 above z0 at beta 1: desirable 2 * (1 - 3/4), undesirable 4 * 3/4; rewards beta r."""
    result = kto_loss(
        t64([math.log(3), math.log(3)]),
        t64([-0.5, -0.5]),
        t64([1, 0]),
        t64(0.5),
        beta=1.0,
        desirable_weight=2.0,
        undesirable_weight=4.0,
    )
    assert_close(result.loss, t64([0.5, 3.0]), rtol=1e-12, atol=0)
    assert_close(result.rewards, t64([math.log(3) + 0.5] * 2), rtol=1e-12, atol=0)


def test_the_reference_point_worked_by_hand() -> None:
    """(1 + 2) / 2 without the row that has no token."""
    found = kto_reference_point(t64([-1.0, -2.0, 9.0]), t64([-2.0, -4.0, 0.0]), t64([1, 1, 0]))
    assert found.item() == pytest.approx(1.5, rel=1e-12)


def test_half_the_weight_where_policy_equals_reference() -> None:
    result = kto_loss(
        LOG_RATIOS, LOG_RATIOS, LABELS, kto_reference_point(LOG_RATIOS, LOG_RATIOS),
        beta=0.3, desirable_weight=1.2, undesirable_weight=0.8,
    )  # fmt: skip
    assert_close(result.loss, t64([0.6, 0.4, 0.6, 0.4]), rtol=1e-12, atol=0)


def test_the_reference_point_is_at_least_0_and_carries_no_gradient() -> None:
    policy = LOG_RATIOS.clone().requires_grad_()
    point = kto_reference_point(policy, ZEROS)
    assert point.item() == pytest.approx(1.1, rel=1e-12)
    assert not point.requires_grad
    assert kto_reference_point(-LOG_RATIOS, ZEROS).item() == 0


def test_without_any_mismatched_response_the_reference_point_is_0() -> None:
    assert kto_reference_point(LOG_RATIOS, ZEROS, ZEROS).item() == 0


def test_desirable_responses_are_raised_and_the_others_lowered() -> None:
    found = gradient(LOG_RATIOS)
    assert (found[LABELS > 0] < 0).all()
    assert (found[LABELS == 0] > 0).all()


def test_responses_far_from_the_reference_point_do_not_pull() -> None:
    near, far = gradient(LOG_RATIOS), gradient(LOG_RATIOS + t64([500.0, -500.0, -500.0, 500.0]))
    assert far.abs().max() < 1e-40
    assert near.abs().min() > 1e-2


def test_the_loss_lies_between_0_and_the_weight_and_is_linear_in_it() -> None:
    loss = kto(LOG_RATIOS)
    assert ((loss > 0) & (loss < 1)).all()
    weighted = kto(LOG_RATIOS, desirable_weight=3.0, undesirable_weight=2.0)
    assert_close(weighted, loss * t64([3.0, 2.0, 3.0, 2.0]), rtol=1e-12, atol=0)


def test_the_other_label_on_the_other_side_of_the_reference_point_is_the_same() -> None:
    mirrored = 2 * 0.5 - LOG_RATIOS
    assert_close(kto(mirrored, 1 - LABELS), kto(LOG_RATIOS), rtol=1e-12, atol=0)


def test_rotation_gives_the_row_before_or_behind() -> None:
    assert mismatched_rows(4) == (3, 0, 1, 2)
    assert mismatched_rows(4, shift=-1) == (1, 2, 3, 0)


@pytest.mark.parametrize("num_rows", [2, 3, 5, 8])
def test_rotation_leaves_no_row_its_own_response_as_a_reversal_of_odd_batches_does(
    num_rows: int,
) -> None:
    rows = range(num_rows)
    assert all(row != other for row, other in enumerate(mismatched_rows(num_rows)))
    assert sorted(mismatched_rows(num_rows)) == list(rows)
    assert any(row == other for row, other in enumerate(reversed(rows))) == (num_rows % 2 == 1)


def test_a_shift_of_2_takes_no_response_of_the_same_prompt() -> None:
    """Rows 2i and 2i + 1 hold both responses of prompt i."""
    rows = mismatched_rows(6, shift=2)
    assert all(row // 2 != other // 2 for row, other in enumerate(rows))
    neighbours = mismatched_rows(6)
    assert any(row // 2 == other // 2 for row, other in enumerate(neighbours))


def test_the_balancing_weight_gives_both_classes_one_sum() -> None:
    """Three desirable and two undesirable rows: 2 * 1.5 = 3."""
    assert balancing_undesirable_weight([True, False, True, False, True]) == 1.5
    assert balancing_undesirable_weight([True, True]) is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="1 rows shifted by 1: no mismatched response"):
        mismatched_rows(1)
    with pytest.raises(ShapeError, match="2 rows shifted by 2"):
        mismatched_rows(2, shift=2)
    with pytest.raises(ShapeError, match=r"beta is 0\.0"):
        kto(LOG_RATIOS, beta=0.0)
    with pytest.raises(ShapeError, match=r"labels \[4, 1\]"):
        kto(LOG_RATIOS, LABELS[:, None])
    with pytest.raises(ShapeError, match=r"valid \[3\]"):
        kto_reference_point(LOG_RATIOS, ZEROS, torch.ones(3))
