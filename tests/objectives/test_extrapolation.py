"""Momentum between iterations: weights, policies, and the paper's form of IPO."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import ipo_loss
from mmalign.objectives.extrapolation import (
    extrapolated_logprobs,
    extrapolated_weights,
    reward_margin_ipo_loss,
)
from mmalign.testing.golden import t64


def test_weights_worked_by_hand() -> None:
    """2 + 0.5 * (2 - 1) = 2.5 and -1 + 0.5 * (-1 - 3) = -3."""
    found = extrapolated_weights({"w": t64([2.0, -1.0])}, {"w": t64([1.0, 3.0])}, alpha=0.5)
    assert found["w"].tolist() == [2.5, -3.0]


def test_no_momentum_leaves_the_weights() -> None:
    weights = {"w": t64([2.0, -1.0]), "ids": torch.tensor([0, 1])}
    found = extrapolated_weights(weights, {"w": t64([9.0, 9.0]), "ids": weights["ids"]}, alpha=0.0)
    assert found["w"].tolist() == [2.0, -1.0]
    assert found["ids"].tolist() == [0, 1]
    assert found["ids"] is not weights["ids"]


def test_half_precision_weights_are_summed_in_float32_and_cast_once() -> None:
    """1 + 2^-7 is the next bfloat16 after 1; half of its distance rounds to even, up to 2^-6."""
    new, old = torch.tensor([1 + 2**-7]).bfloat16(), torch.tensor([1.0]).bfloat16()
    found = extrapolated_weights({"w": new}, {"w": old}, alpha=0.5)["w"]
    assert found.dtype == torch.bfloat16
    assert found.item() == 1 + 2**-6


def test_the_momentum_of_policies_is_that_of_their_logits() -> None:
    logits, before = t64([[0.3, -1.2, 2.0]]), t64([[1.0, 0.5, -0.5]])
    found = extrapolated_logprobs(logits.log_softmax(-1), before.log_softmax(-1), alpha=0.3)
    weights = extrapolated_weights({"w": logits}, {"w": before}, alpha=0.3)
    assert_close(found, weights["w"].log_softmax(-1), rtol=1e-12, atol=1e-14)
    assert found.exp().sum().item() == pytest.approx(1.0, rel=1e-12)


def test_reward_margin_ipo_worked_by_hand() -> None:
    """Rewards 0.5 * 2 and 0.5 * -1, target 1 / 2: loss = (1.5 - 0.5)^2."""
    result = reward_margin_ipo_loss(
        t64([-1.0]), t64([-4.0]), t64([-3.0]), t64([-3.0]), beta=0.5, tau=2.0
    )
    assert result.loss.item() == pytest.approx(1.0, rel=1e-12)
    assert result.chosen_rewards.item() == 1.0


def test_reward_margin_ipo_is_ipo_with_another_tau_times_beta_squared() -> None:
    batch = (t64([-1.0, -7.0]), t64([-4.0, -2.0]), t64([-3.0, -3.0]), t64([-3.0, -5.0]))
    found = reward_margin_ipo_loss(*batch, beta=0.3, tau=1.5).loss
    assert_close(found, 0.3**2 * ipo_loss(*batch, beta=0.3 * 1.5 / 2).loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [1.0, -0.1, math.nan])
def test_momentum_out_of_range_is_refused(alpha: float) -> None:
    one = t64([0.0])
    with pytest.raises(ShapeError, match=r"alpha is .*, expected 0 <= alpha < 1"):
        extrapolated_weights({"w": one}, {"w": one}, alpha=alpha)
    with pytest.raises(ShapeError, match=r"alpha is .*, expected 0 <= alpha < 1"):
        extrapolated_logprobs(one, one, alpha=alpha)


def test_checkpoints_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"'lora_b' is in one checkpoint only \(1 such names\)"):
        extrapolated_weights({"w": t64([0.0]), "lora_b": t64([0.0])}, {"w": t64([0.0])}, alpha=0.3)
    with pytest.raises(ShapeError, match=r"trained\['w'\] \[2\], trained_before\['w'\] \[1\]"):
        extrapolated_weights({"w": t64([0.0, 0.0])}, {"w": t64([0.0])}, alpha=0.3)
    with pytest.raises(ShapeError, match=r"w\[1\] is inf"):
        extrapolated_weights({"w": t64([0.0, math.inf])}, {"w": t64([0.0, 0.0])}, alpha=0.3)


def test_a_tau_of_zero_is_refused() -> None:
    one = t64([0.0])
    with pytest.raises(ShapeError, match=r"tau is 0\.0"):
        reward_margin_ipo_loss(one, one, one, one, beta=0.1, tau=0.0)
