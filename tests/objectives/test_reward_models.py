"""Losses of reward models: worked cases, identities and limits, refused input."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.reward_models import (
    attribute_regression_loss,
    context_pair_loss,
    prompt_weight_loss,
)
from mmalign.testing.golden import t64


def test_attribute_regression_worked_by_hand() -> None:
    """Errors 2 and 1 in the first row, 3 in the second: (4 + 1 + 9) / 3 labelled entries."""
    loss = attribute_regression_loss(
        t64([[2.0, 1.0], [5.0, 3.0]]),
        t64([[0.0, 0.0], [math.nan, 0.0]]),
        t64([[1, 1], [0, 1]]),
        t64(1.5),
    )
    assert_close(loss, t64([5 / 1.5, 9 / 1.5]))
    assert loss.mean().item() == pytest.approx(14 / 3)


def test_unlabelled_attributes_get_no_gradient() -> None:
    predictions = t64([[2.0, 1.0], [5.0, 3.0]], requires_grad=True)
    loss = attribute_regression_loss(
        predictions, t64([[0.0, math.nan], [math.nan, math.nan]]), t64([[1, 0], [0, 0]]), t64(0.5)
    )
    (grad,) = torch.autograd.grad(loss.mean(), predictions)
    assert grad.tolist() == [[4.0, 0.0], [0.0, 0.0]]


def test_context_pairs_worked_by_hand() -> None:
    """Rewards (2, 1) under a and (0, 3) under b: margins 1 and 3."""
    result = context_pair_loss(t64([[[2.0, 1.0], [0.0, 3.0]]]))
    assert result.margins.tolist() == [[1.0, 3.0]]
    assert_close(result.loss, t64([[math.log1p(math.exp(-1)), math.log1p(math.exp(-3))]]))


@pytest.mark.parametrize("gap", [0.0, 0.7, -4.0])
def test_a_model_blind_to_the_context_cannot_go_below_log_2(gap: float) -> None:
    blind = t64([[[gap, 0.0], [gap, 0.0]]])
    assert context_pair_loss(blind).loss.mean().item() >= math.log(2)


def test_both_rows_pull_an_answer_in_opposite_directions() -> None:
    rewards = t64([[[0.3, -0.2], [0.1, 0.4]]], requires_grad=True)
    (grad,) = torch.autograd.grad(context_pair_loss(rewards).loss.sum(), rewards)
    assert (grad[0, 0] * grad[0, 1] < 0).all()
    assert_close(grad.sum(-1), t64([[0.0, 0.0]]))


def test_prompt_weights_worked_by_hand() -> None:
    """Equal weights against (1/4, 3/4): (1/4) log(1/2) + (3/4) log(3/2)."""
    result = prompt_weight_loss(t64([[0.0, 0.0]]), t64([[0.25, 0.75]]))
    by_hand = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert result.loss.item() == pytest.approx(by_hand, rel=1e-12)
    assert result.weights.tolist() == [[0.5, 0.5]]


def test_prompt_weights_are_learnt_where_they_equal_their_target() -> None:
    logits = t64([[0.3, -1.2, 0.5]])
    assert prompt_weight_loss(logits + 7, logits.softmax(-1)).loss.item() == pytest.approx(
        0, abs=1e-15
    )


def test_the_gradient_of_the_adapter_is_weights_minus_targets() -> None:
    logits = t64([[0.3, -1.2, 0.5], [1.0, 0.0, 2.0]], requires_grad=True)
    targets = t64([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    result = prompt_weight_loss(logits, targets)
    (grad,) = torch.autograd.grad(result.loss.sum(), logits)
    assert_close(grad, result.weights - targets)
    assert (result.loss >= 0).all()
    assert not result.weights.requires_grad


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"expected rewards \[B, 2, 2\].*found \[2, 2\]"):
        context_pair_loss(t64([[0.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(ShapeError, match=r"target_weights \[1, 3\]"):
        prompt_weight_loss(t64([[0.0, 0.0]]), t64([[0.2, 0.3, 0.5]]))
    with pytest.raises(ShapeError, match=r"mask \[1, 1\]"):
        attribute_regression_loss(t64([[0.0, 0.0]]), t64([[0.0, 0.0]]), t64([[1.0]]), t64(1.0))
