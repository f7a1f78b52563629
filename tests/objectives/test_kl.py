"""Estimates of the KL: worked cases, signs, gradients, what they estimate."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.kl import (
    KLEstimator,
    entropy_of_logprobs,
    jensen_shannon,
    kl_estimate,
)
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


def test_entropy_worked_by_hand() -> None:
    """(1/2, 1/4, 1/4, 0): log 2 / 2 + 2 log 4 / 4 = 1.5 log 2; of one token alone it is 0."""
    probs = t64([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert_close(entropy_of_logprobs(probs.log()), t64([1.5 * math.log(2), 0.0]))


def test_entropy_is_largest_where_all_tokens_are_alike() -> None:
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    entropy = entropy_of_logprobs(logits.log_softmax(-1))
    (gradient,) = torch.autograd.grad(entropy, logits)
    assert entropy.item() == pytest.approx(math.log(5), rel=1e-12)
    assert gradient.abs().max() < 1e-15


def logprobs(seed: int, *shape: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64).log_softmax(-1)


def test_jensen_shannon_worked_by_hand() -> None:
    """(1, 0) and (1/2, 1/2) with mean (3/4, 1/4): log2(4/3) / 2 + (log2(2/3) + log2(2)) / 4."""
    certain, even = t64([0.0, -math.inf]), t64([math.log(0.5), math.log(0.5)])
    by_hand = math.log2(4 / 3) / 2 + (math.log2(2 / 3) + 1) / 4
    assert jensen_shannon(certain, even).item() == pytest.approx(by_hand, rel=1e-12)


def test_jensen_shannon_is_0_for_equals_1_for_strangers_and_the_same_both_ways() -> None:
    p, q = logprobs(0, 7, 5), logprobs(1, 7, 5)
    assert jensen_shannon(p, p).tolist() == [0.0] * 7
    assert_close(jensen_shannon(p, q), jensen_shannon(q, p), rtol=1e-12, atol=0)
    assert 0 < jensen_shannon(p, q).min() <= jensen_shannon(p, q).max() < 1
    one, other = t64([0.0, -math.inf, -math.inf]), t64([-math.inf, 0.0, -math.inf])
    assert jensen_shannon(one, other).item() == 1


def test_the_gradient_of_jensen_shannon_worked_by_hand() -> None:
    """p = (3/4, 1/4, 0) and q = (1/4, 3/4, 0): u = log2(p / m) / 2, the gradient p (u - p u)."""
    logits, other = t64([3.0, 1.0, 0.0]).log().requires_grad_(), t64([0.25, 0.75, 0.0]).log()
    (gradient,) = torch.autograd.grad(jensen_shannon(logits.log_softmax(-1), other), logits)
    slopes = [math.log2(1.5) / 2, math.log2(0.5) / 2]
    mean = 0.75 * slopes[0] + 0.25 * slopes[1]
    assert_close(gradient, t64([0.75 * (slopes[0] - mean), 0.25 * (slopes[1] - mean), 0.0]))
