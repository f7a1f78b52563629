"""The degree loss: worked case, identities and limits, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss
from mmalign.objectives.degree import degree_loss, spo_degree_loss
from mmalign.testing.golden import t64

DEGREES = torch.arange(4).expand(2, -1)


def random(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def test_degree_loss_worked_by_hand() -> None:
    """Logits (2, 0) for degree 0 and (0, 0) for degree 1: (log(1 + e^-2) + log 2) / 2."""
    head = t64([[1.0], [0.0]])
    result = degree_loss(t64([[[2.0], [0.0]]]), torch.tensor([[0, 1]]), head, t64([0.0, 0.0]))
    by_hand = (math.log1p(math.exp(-2)) + math.log(2)) / 2
    assert result.loss.item() == pytest.approx(by_hand, rel=1e-12)
    assert result.correct.tolist() == [[True, False]]  # of equal logits the smallest class


def test_a_head_of_zeros_knows_nothing() -> None:
    result = degree_loss(random(2, 4, 3), DEGREES, t64([[0.0] * 3] * 4), t64([0.0] * 4))
    assert_close(result.loss, t64([math.log(4)] * 2), rtol=1e-12, atol=0)


def test_copies_may_come_in_any_order() -> None:
    features, head, bias = random(2, 4, 3), random(4, 3, seed=1), random(4, seed=2)
    order = [3, 1, 0, 2]
    there = degree_loss(features, DEGREES, head, bias)
    back = degree_loss(features[:, order], DEGREES[:, order], head, bias)
    assert_close(back.loss, there.loss, rtol=1e-12, atol=0)


def test_gradients_match_finite_differences() -> None:
    leaves = [values.requires_grad_() for values in (random(2, 4, 3), random(4, 3, seed=1))]
    bias = random(4, seed=2)
    assert torch.autograd.gradcheck(
        lambda features, head: degree_loss(features, DEGREES, head, bias).loss, leaves
    )


def test_without_weight_the_preference_loss_is_left() -> None:
    preference = dpo_loss(*random(4, 2), beta=0.1)
    side = degree_loss(random(2, 4, 3), DEGREES, random(4, 3, seed=1), random(4, seed=2))
    assert_close(spo_degree_loss(preference, side, side, degree_weight=0.0).loss, preference.loss)


def test_both_sides_are_added_not_averaged() -> None:
    preference = dpo_loss(*random(4, 2), beta=0.1)
    chosen, rejected = (
        degree_loss(random(2, 4, 3, seed=s), DEGREES, random(4, 3, seed=1), random(4, seed=2))
        for s in (3, 4)
    )
    result = spo_degree_loss(preference, chosen, rejected, degree_weight=0.5)
    assert_close(result.loss - preference.loss, 0.5 * chosen.loss + 0.5 * rejected.loss)
    assert_close(result.metrics["degree_loss_rejected"], rejected.loss)
    assert_close(result.chosen_rewards, preference.chosen_rewards)


def test_wrong_input_is_refused() -> None:
    features, head, bias = random(2, 4, 3), random(4, 3), random(4)
    with pytest.raises(ShapeError, match=r"degrees \[2, 3\]"):
        degree_loss(features, DEGREES[:, :3], head, bias)
    with pytest.raises(ShapeError, match=r"head_weight \[4, 2\]"):
        degree_loss(features, DEGREES, head[:, :2], bias)
    with pytest.raises(ShapeError, match=r"head_bias \[3\]"):
        degree_loss(features, DEGREES, head, bias[:3])
    side = degree_loss(features, DEGREES, head, bias)
    preference = dpo_loss(*random(4, 2), beta=0.1)
    with pytest.raises(ShapeError, match="degree_weight is -1"):
        spo_degree_loss(preference, side, side, degree_weight=-1)
    with pytest.raises(ShapeError, match=r"preference_loss \[3\]"):
        spo_degree_loss(dpo_loss(*random(4, 3), beta=0.1), side, side, degree_weight=1)
