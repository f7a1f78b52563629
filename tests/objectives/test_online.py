"""HyPO's online KL and VPO's calibration: exact expectations, limits, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss
from mmalign.objectives.online import (
    leave_one_out_means,
    offline_vpo_loss,
    online_kl_loss,
    vpo_calibration_loss,
)
from mmalign.testing.golden import t64


def logps(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return -20 * torch.rand(*shape, generator=source, dtype=torch.float64)


def gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(loss, leaf)[0]


def test_online_kl_worked_by_hand() -> None:
    """d = 3 and 1, so the coefficients are 3 - 1 and 1 - 3; loss = 0.1 * 2 * -1, 0.1 * -2 * -2."""
    result = online_kl_loss(t64([[-1.0, -2.0]]), t64([[-4.0, -3.0]]), kl_weight=0.1)
    assert_close(result.loss, t64([[-0.2, 0.4]]), rtol=1e-12, atol=0)
    assert_close(result.kl, t64([[3.0, 1.0]]), rtol=1e-12, atol=0)
    assert_close(result.penalty, t64([[0.3, 0.1]]), rtol=1e-12, atol=0)


def test_leave_one_out_worked_by_hand() -> None:
    assert leave_one_out_means(t64([1.0, 2.0, 6.0])).tolist() == [4.0, 3.5, 1.5]
    assert leave_one_out_means(t64([[5.0], [7.0]])).tolist() == [[0.0], [0.0]]


def test_leave_one_out_coefficients_of_a_prompt_sum_to_0() -> None:
    policy = logps(3, 5).requires_grad_()
    loss = online_kl_loss(policy, logps(3, 5, seed=1), kl_weight=0.3).loss.sum()
    assert_close(gradient(loss, policy).sum(-1), torch.zeros(3).double(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("baseline", ["leave_one_out", "none"])
def test_the_expected_gradient_is_that_of_the_kl(baseline: str) -> None:
    """All pairs of draws from a categorical, each with its probability."""
    logits = t64([0.3, -0.7, 1.1], requires_grad=True)
    ref = t64([0.9, 0.1, -0.4]).log_softmax(-1)
    policy = logits.log_softmax(-1)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    result = online_kl_loss(
        policy[pairs], ref[pairs], kl_weight=1.0,
        baseline="leave_one_out" if baseline == "leave_one_out" else "none",
    )  # fmt: skip
    chances = policy[pairs].sum(-1).exp().detach()
    found = gradient((chances * result.loss.mean(-1)).sum(), logits)
    probs, log_ratios = policy.exp().detach(), (policy - ref).detach()
    assert_close(found, probs * (log_ratios - (probs * log_ratios).sum()), rtol=1e-9, atol=1e-12)


def test_the_plain_log_ratio_would_have_no_expected_gradient() -> None:
    logits = t64([0.3, -0.7, 1.1], requires_grad=True)
    policy = logits.log_softmax(-1)
    log_ratios = policy - t64([0.9, 0.1, -0.4]).log_softmax(-1)
    found = gradient((policy.exp().detach() * log_ratios).sum(), logits)
    assert_close(found, torch.zeros(3).double(), rtol=0, atol=1e-15)


def test_a_policy_at_its_reference_is_not_pulled() -> None:
    policy = logps(3, 2).requires_grad_()
    result = online_kl_loss(policy, policy.detach(), kl_weight=1.0, baseline="none")
    assert result.kl.abs().max() == 0
    assert gradient(result.loss.sum(), policy).abs().max() == 0


def test_identical_samples_give_no_gradient() -> None:
    policy = t64([[-2.0, -2.0, -2.0]], requires_grad=True)
    loss = online_kl_loss(policy, t64([[-3.0, -3.0, -3.0]]), kl_weight=1.0).loss.sum()
    assert gradient(loss, policy).abs().max() == 0


def test_a_single_sample_has_no_baseline() -> None:
    policy, ref = logps(3, 1), logps(3, 1, seed=1)
    with_baseline, without = (
        online_kl_loss(policy, ref, kl_weight=0.5).loss,
        online_kl_loss(policy, ref, kl_weight=0.5, baseline="none").loss,
    )
    assert_close(with_baseline, without, rtol=0, atol=0)


def test_clipping_comes_after_the_baseline_and_is_told() -> None:
    """d = 30, 0, 0: coefficients 30, -15, -15, of which 20 cuts the first only."""
    policy = t64([[30.0, 0.0, 0.0]], requires_grad=True)
    result = online_kl_loss(policy, t64([[0.0] * 3]), kl_weight=1.0, coefficient_clip=20.0)
    assert gradient(result.loss.sum(), policy).tolist() == [[20.0, -15.0, -15.0]]
    assert result.clipped.tolist() == [[True, False, False]]
    assert result.kl.tolist() == [[30.0, 0.0, 0.0]]


def test_online_kl_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"ref_logps \[2, 1\]"):
        online_kl_loss(logps(2, 3), logps(2, 1), kl_weight=0.1)
    with pytest.raises(ShapeError, match=r"policy_logps is \[3\], expected \[B, K\]"):
        online_kl_loss(logps(3), logps(3), kl_weight=0.1)
    with pytest.raises(ShapeError, match=r"policy_logps is \[3, 0\]"):
        online_kl_loss(logps(3, 0), logps(3, 0), kl_weight=0.1)
    with pytest.raises(ShapeError, match=r"kl_weight is -0\.1, expected a finite number of 0 or"):
        online_kl_loss(logps(2, 3), logps(2, 3), kl_weight=-0.1)


def test_calibration_worked_by_hand() -> None:
    """0.5 * 0.2 * (-1 + 3) = 0.2 online, the negative offline."""
    online, offline = (
        vpo_calibration_loss(t64([-1.0]), t64([-3.0]), beta=0.2, alpha=0.5, mode=mode).item()
        for mode in ("online", "offline")
    )
    assert online == pytest.approx(0.2, rel=1e-12)
    assert offline == -online


def test_the_calibration_gradient_does_not_depend_on_the_answer() -> None:
    policy = logps(4).requires_grad_()
    loss = vpo_calibration_loss(policy, logps(4, seed=1), beta=0.1, alpha=2.0, mode="online")
    assert_close(gradient(loss.mean(), policy), t64([0.05] * 4), rtol=1e-12, atol=0)


def test_offline_vpo_is_dpo_less_the_weighted_log_ratio_of_the_chosen_response() -> None:
    chosen, rejected, ref_chosen, ref_rejected = (logps(3, seed=seed) for seed in range(4))
    found = offline_vpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1, alpha=0.5)
    dpo = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1)
    assert_close(found.loss, dpo.loss - 0.5 * 0.1 * (chosen - ref_chosen), rtol=1e-12, atol=0)
    assert_close(found.metrics["dpo_loss"], dpo.loss, rtol=0, atol=0)


def test_offline_vpo_without_alpha_is_dpo() -> None:
    batch = [logps(3, seed=seed) for seed in range(4)]
    found, dpo = offline_vpo_loss(*batch, beta=0.1, alpha=0.0), dpo_loss(*batch, beta=0.1)
    assert_close(found.loss, dpo.loss, rtol=0, atol=0)


def test_offline_vpo_at_the_reference_is_log_2() -> None:
    chosen, rejected = logps(3), logps(3, seed=1)
    found = offline_vpo_loss(chosen, rejected, chosen, rejected, beta=0.1, alpha=1.0)
    assert_close(found.loss, torch.full_like(chosen, math.log(2)), rtol=1e-12, atol=0)


def test_calibration_refuses_what_does_not_fit() -> None:
    one = t64([-1.0])
    with pytest.raises(ShapeError, match=r"alpha is -1\.0"):
        vpo_calibration_loss(one, one, beta=0.1, alpha=-1.0, mode="online")
    with pytest.raises(ShapeError, match="mode is 'both', expected 'online' or 'offline'"):
        vpo_calibration_loss(one, one, beta=0.1, alpha=1.0, mode="both")  # type: ignore[arg-type]  # refused input
    with pytest.raises(ShapeError, match=r"ref_cal_logps \[1, 1\]"):
        vpo_calibration_loss(one, one[None], beta=0.1, alpha=1.0, mode="online")
