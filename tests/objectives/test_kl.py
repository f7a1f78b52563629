"""Estimates of the KL: worked cases, signs, gradients, what they estimate."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.kl import KLEstimator, kl_estimate
from mmalign.testing.golden import t64

ESTIMATORS: list[KLEstimator] = ["k1", "k2", "k3", "k3_with_k2_gradient", "abs"]


@pytest.mark.parametrize(
    ("estimator", "value"),
    [
        ("k1", -math.log(2)),
        ("k2", math.log(2) ** 2 / 2),
        ("k3", 2 - math.log(2) - 1),
        ("k3_with_k2_gradient", 2 - math.log(2) - 1),
        ("abs", math.log(2)),
    ],
)
def test_worked_by_hand(estimator: KLEstimator, value: float) -> None:
    """A token of probability 1/4 under the policy and 1/2 under the reference: d = log 2."""
    found = kl_estimate(
        t64([[math.log(1 / 4)]]), t64([[math.log(1 / 2)]]), estimator=estimator
    ).item()
    assert found == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_zero_where_policy_and_reference_agree(estimator: KLEstimator) -> None:
    logps = t64([[-1.0, -0.2]])
    assert kl_estimate(logps, logps, estimator=estimator).abs().max().item() == 0


def test_k3_is_positive_wherever_they_differ() -> None:
    d = t64([[-3.0, -1e-3, 1e-3, 3.0]])
    assert (kl_estimate(t64([[0.0] * 4]) - d, t64([[0.0] * 4])) > 0).all()


def test_k3_keeps_its_digits_near_zero() -> None:
    """d^2 / 2 + d^3 / 6: at d = 1e-6 the plain form is left with five digits."""
    found = kl_estimate(t64([[0.0]]), t64([[1e-6]])).item()
    assert found == pytest.approx(5e-13 + 1e-18 / 6, rel=1e-9)


def test_gradients_of_k3_and_of_its_straight_through_form() -> None:
    policy, ref = t64([[-2.0, -0.5]], requires_grad=True), t64([[-1.0, -0.9]])
    (k3,) = torch.autograd.grad(kl_estimate(policy, ref).sum(), policy)
    assert_close(k3, 1 - (ref - policy).exp().detach())
    through = kl_estimate(policy, ref, estimator="k3_with_k2_gradient")
    assert_close(through, kl_estimate(policy, ref))
    (k2,) = torch.autograd.grad(through.sum(), policy)
    assert_close(k2, (policy - ref).detach())


def test_k1_and_k3_estimate_the_kl_without_bias() -> None:
    policy, ref = t64([0.5, 0.3, 0.2]).log(), t64([0.2, 0.2, 0.6]).log()
    exact = (policy.exp() * (policy - ref)).sum()
    for estimator in ("k1", "k3"):
        mean = (policy.exp() * kl_estimate(policy, ref, estimator=estimator)).sum()
        assert_close(mean, exact)


def test_the_gradient_of_k2_is_that_of_the_kl() -> None:
    logits, ref = t64([0.4, -1.0, 0.3], requires_grad=True), t64([0.2, 0.2, 0.6]).log()
    policy = logits.log_softmax(-1)
    exact = torch.autograd.grad((policy.exp() * (policy - ref)).sum(), logits, retain_graph=True)
    samples = policy.exp().detach()  # the expectation over samples, not differentiated
    k2 = torch.autograd.grad(
        (samples * kl_estimate(policy, ref, estimator="k2")).sum(), logits, retain_graph=True
    )
    assert_close(k2[0], exact[0])
    k3 = torch.autograd.grad((samples * kl_estimate(policy, ref)).sum(), logits)
    assert (k3[0] - exact[0]).abs().max() > 0.01


def test_a_huge_gap_does_not_overflow_in_float32() -> None:
    policy = torch.tensor([[-200.0]], requires_grad=True)
    found = kl_estimate(policy, torch.tensor([[-1.0]]))
    (grad,) = torch.autograd.grad(found.sum(), policy)
    assert found.isfinite().all()
    assert grad.isfinite().all()


def test_the_reference_gets_no_gradient() -> None:
    ref = t64([[-1.0]], requires_grad=True)
    assert not kl_estimate(t64([[-2.0]]), ref).requires_grad


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"policy_token_logps \[1, 2\], ref_token_logps \[2, 1\]"):
        kl_estimate(t64([[0.0, 0.0]]), t64([[0.0], [0.0]]))
