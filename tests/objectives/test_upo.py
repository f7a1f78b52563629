"""UPO: smoothing by uncertainty and the chosen response's likelihood."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import PreferenceLoss, dpo_loss
from mmalign.objectives.upo import upo_loss
from mmalign.testing.golden import t64

LOGPS = ([-4.0, -9.0, -7.0], [-6.0, -5.0, -7.5], [-5.0, -8.0, -7.0], [-5.0, -6.0, -7.0])
TOKENS = [4.0, 6.0, 5.0]


def loss(
    logps: list[Tensor], alpha: Tensor, tokens: Tensor, *, nll_weight: float, beta: float = 0.2
) -> PreferenceLoss:
    return upo_loss(
        *logps, beta=beta, label_smoothing=alpha, chosen_tokens=tokens, nll_weight=nll_weight
    )


def gradients(alpha: list[float], *, nll_weight: float, same: bool = False) -> tuple[Tensor, ...]:
    """Of the summed loss by the log-probabilities of both responses."""
    policy = [t64(values, requires_grad=True) for values in LOGPS[:2]]
    ref = [t64(values) for values in (LOGPS[:2] if same else LOGPS[2:])]
    result = loss(policy + ref, t64(alpha), t64(TOKENS), nll_weight=nll_weight)
    return torch.autograd.grad(result.loss.sum(), policy)


def test_worked_by_hand() -> None:
    """Margin 0, so log 2 whatever the smoothing; NLL 6 / 3 = 2, of which a tenth."""
    logps = [t64([-6.0]), t64([-4.0]), t64([-6.0]), t64([-4.0])]
    found = loss(logps, t64([0.3]), t64([3.0]), nll_weight=0.1)
    assert found.loss.item() == pytest.approx(math.log(2) + 0.2, rel=1e-12)
    assert found.metrics["rank_loss"].item() == pytest.approx(math.log(2), rel=1e-12)
    assert found.metrics["nll"].item() == 2.0


def test_without_uncertainty_and_likelihood_it_is_dpo() -> None:
    logps = [t64(values) for values in LOGPS]
    found = loss(logps, torch.zeros(3), t64(TOKENS), nll_weight=0.0)
    expected = dpo_loss(*logps, beta=0.2)
    assert_close(found.loss, expected.loss, rtol=0, atol=0)
    assert_close(found.chosen_rewards, expected.chosen_rewards, rtol=0, atol=0)


def test_where_policy_equals_reference_only_a_printed_weight_pushes_the_rejected_up() -> None:
    _, safe = gradients([0.0, 0.2, 0.5], nll_weight=0.1, same=True)
    assert (safe[:2] > 0).all()
    assert safe[2] == 0
    _, printed = gradients([0.6, 0.8, 1.0], nll_weight=0.1, same=True)
    assert (printed < 0).all()


def test_likelihood_pulls_the_chosen_response_by_1_over_its_length() -> None:
    alpha = [0.1, 0.2, 0.3]
    chosen, rejected = gradients(alpha, nll_weight=0.0)
    pulled, untouched = gradients(alpha, nll_weight=0.5)
    assert_close(pulled, chosen - 0.5 / t64(TOKENS), rtol=1e-12, atol=0)
    assert_close(untouched, rejected, rtol=0, atol=0)


def test_smoothing_carries_no_gradient() -> None:
    alpha = t64([0.1, 0.2, 0.3], requires_grad=True)
    policy = t64(LOGPS[0], requires_grad=True)
    logps = [policy, *(t64(values) for values in LOGPS[1:])]
    result = loss(logps, alpha, t64(TOKENS), nll_weight=0.1)
    grad = torch.autograd.grad(result.loss.sum(), [policy, alpha], allow_unused=True)
    assert grad[0].abs().min() > 0
    assert grad[1] is None


def test_refused_inputs_are_named() -> None:
    logps = [t64(values) for values in LOGPS]
    with pytest.raises(ShapeError, match=r"label_smoothing \[1\]"):
        loss(logps, t64([0.1]), t64(TOKENS), nll_weight=0.1)
    with pytest.raises(ShapeError, match=r"chosen_tokens \[3, 1\]"):
        loss(logps, torch.zeros(3), t64(TOKENS)[:, None], nll_weight=0.1)
    with pytest.raises(ShapeError, match=r"beta is 0\.0"):
        loss(logps, torch.zeros(3), t64(TOKENS), nll_weight=0.1, beta=0.0)
