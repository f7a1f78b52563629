"""Flex-DPO: a worked case, DPO as its special case, the ratio of its gradients."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss
from mmalign.objectives.flex_dpo import flex_dpo_loss
from mmalign.testing.golden import t64

LOGPS = (t64([-4.0, -9.0]), t64([-6.0, -3.0]), t64([-5.0, -8.5]), t64([-5.5, -4.0]))


def test_worked_by_hand() -> None:
    """Log-ratios 1 and -0.5: rewards 0.4 * 1 and 0.2 * -0.5, margin 0.5."""
    found = flex_dpo_loss(*(values[:1] for values in LOGPS), beta_chosen=0.4, beta_rejected=0.2)
    assert found.loss.item() == pytest.approx(math.log1p(math.exp(-0.5)), rel=1e-12)
    assert found.chosen_rewards.item() == pytest.approx(0.4)
    assert found.rejected_rewards.item() == pytest.approx(-0.1)


def test_equal_betas_are_dpo() -> None:
    found = flex_dpo_loss(*LOGPS, beta_chosen=0.3, beta_rejected=0.3)
    assert_close(found.loss, dpo_loss(*LOGPS, beta=0.3).loss, rtol=0, atol=0)


def test_log_2_where_policy_equals_reference_whatever_the_betas() -> None:
    found = flex_dpo_loss(*LOGPS[:2], *LOGPS[:2], beta_chosen=0.1, beta_rejected=0.01)
    assert_close(found.loss, t64([math.log(2), math.log(2)]), rtol=1e-12, atol=0)


def test_the_sides_are_pushed_in_the_ratio_of_their_betas() -> None:
    chosen, rejected = (values.clone().requires_grad_() for values in LOGPS[:2])
    found = flex_dpo_loss(chosen, rejected, *LOGPS[2:], beta_chosen=0.1, beta_rejected=0.08)
    up, down = torch.autograd.grad(found.loss.sum(), (chosen, rejected))
    assert_close(down, -0.8 * up, rtol=1e-12, atol=0)
    assert (up < 0).all()


def test_betas_must_be_positive() -> None:
    with pytest.raises(ShapeError, match=r"beta_rejected is 0\.0"):
        flex_dpo_loss(*LOGPS, beta_chosen=0.1, beta_rejected=0.0)
    with pytest.raises(ShapeError, match=r"policy_rejected_logps \[1\]"):
        flex_dpo_loss(LOGPS[0], LOGPS[1][:1], *LOGPS[2:], beta_chosen=0.1, beta_rejected=0.1)
