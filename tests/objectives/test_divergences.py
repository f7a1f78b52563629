"""Fine-tuning by implicit rewards: what each divergence pulls, and where it stops."""

import math
from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.divergences import (
    Divergence,
    demonstration_sequence_loss,
    demonstration_token_loss,
    reward_utility,
)
from mmalign.testing.golden import t64

DIVERGENCES: tuple[Divergence, ...] = get_args(Divergence)
MASK = t64([[0, 1, 1, 1], [1, 1, 0, 0]])


def token_logps(seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return -3 * torch.rand(2, 4, generator=source, dtype=torch.float64)


def slope(divergence: Divergence, reward: float) -> float:
    rewards = t64(reward, requires_grad=True)
    return torch.autograd.grad(reward_utility(rewards, divergence), rewards)[0].item()


def test_utilities_worked_by_hand() -> None:
    """At r = 1: 1, 1 - 1/4, 1/2, -e^-2; at r = -1 hellinger's tangent gives -3."""
    found = [reward_utility(t64(1.0), name).item() for name in DIVERGENCES]
    assert found == pytest.approx([1.0, 0.75, 0.5, -math.exp(-2)], rel=1e-12)
    assert reward_utility(t64(-1.0), "hellinger").item() == pytest.approx(-3.0, rel=1e-12)


def test_a_sequence_worked_by_hand() -> None:
    """r = 0.5 * (1 + 3) = 2, at the top of pearson's parabola: loss = -(2 - 1)."""
    result = demonstration_sequence_loss(
        t64([[-1.0, -1.0]]), t64([[-2.0, -4.0]]), t64([[1, 1]]), beta=0.5, divergence="pearson"
    )
    assert result.implicit_rewards.tolist() == [2.0]
    assert result.loss.tolist() == [-1.0]


def test_tokens_worked_by_hand() -> None:
    """r = 0.5 and 1.5; pearson gives 0.4375 and 0.9375; over 4 tokens a response."""
    result = demonstration_token_loss(
        t64([[-1.0, -1.0]]), t64([[-2.0, -4.0]]), t64([[1, 1]]), t64(4.0),
        beta=0.5, divergence="pearson",
    )  # fmt: skip
    assert result.implicit_rewards.tolist() == [[0.5, 1.5]]
    assert result.loss.item() == pytest.approx(-1.375 / 4, rel=1e-12)


def test_total_variation_is_fine_tuning_times_beta() -> None:
    policy, ref = token_logps(0).requires_grad_(), token_logps(1)
    loss = demonstration_token_loss(
        policy, ref, MASK, MASK.sum() / 2, beta=0.3, divergence="tv"
    ).loss.mean()
    nll = -(policy * MASK).sum() / MASK.sum()
    grads = [torch.autograd.grad(each, policy)[0] for each in (loss, 0.3 * nll)]
    assert_close(grads[0], grads[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("divergence", "value", "pull"),
    [
        ("tv", 0.0, 1.0),
        ("pearson", 0.0, 1.0),
        ("hellinger", 0.0, 1.0),
        ("rkl", math.exp(-1), math.exp(-1)),
    ],
)
def test_loss_and_pull_at_the_reference(divergence: Divergence, value: float, pull: float) -> None:
    policy = token_logps(0).requires_grad_()
    result = demonstration_sequence_loss(
        policy, policy.detach(), MASK, beta=0.5, divergence=divergence
    )
    assert_close(result.loss, t64([value, value]), rtol=1e-12, atol=1e-15)
    grad = torch.autograd.grad(result.loss.sum(), policy)[0]
    assert_close(grad, -0.5 * pull * MASK, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_pull_never_grows_with_the_reward(divergence: Divergence) -> None:
    slopes = [slope(divergence, reward / 4) for reward in range(-16, 17)]
    assert all(later <= earlier for earlier, later in pairwise(slopes))


def test_pearson_stops_at_2_and_reverses_beyond() -> None:
    assert slope("pearson", 2.0) == 0
    assert slope("pearson", 1.9) > 0 > slope("pearson", 2.1)


def test_hellinger_goes_on_straight_below_minus_half() -> None:
    assert slope("hellinger", -0.5) == pytest.approx(4.0, rel=1e-12)
    assert slope("hellinger", -0.5 + 1e-9) == pytest.approx(4.0, rel=1e-7)
    assert slope("hellinger", -1.0) == slope("hellinger", -7.0) == 4.0
    below, above = (reward_utility(t64(-0.5 + e), "hellinger").item() for e in (-1e-9, 1e-9))
    assert above - below == pytest.approx(8e-9, rel=1e-3)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_what_stands_outside_the_mask_does_not_matter(divergence: Divergence) -> None:
    policy, ref = token_logps(0), token_logps(1)
    spoilt = policy.masked_fill(MASK == 0, math.nan).requires_grad_()
    count = MASK.sum() / 2
    for result, expected in (
        (
            demonstration_sequence_loss(spoilt, ref, MASK, divergence=divergence),
            demonstration_sequence_loss(policy, ref, MASK, divergence=divergence),
        ),
        (
            demonstration_token_loss(spoilt, ref, MASK, count, divergence=divergence),
            demonstration_token_loss(policy, ref, MASK, count, divergence=divergence),
        ),
    ):
        assert_close(result.loss, expected.loss, rtol=0, atol=0)
        grad = torch.autograd.grad(result.loss.sum(), spoilt)[0]
        assert grad[MASK == 0].abs().max() == 0
        assert grad[MASK == 1].abs().min() > 0


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_constant_added_to_policy_and_base_changes_nothing(divergence: Divergence) -> None:
    policy, ref = token_logps(0), token_logps(1)
    plain, moved = (
        demonstration_sequence_loss(policy + c, ref + c, MASK, divergence=divergence).loss
        for c in (0.0, 2.0)
    )
    assert_close(moved, plain, rtol=1e-12, atol=1e-14)


def test_the_base_model_gets_no_gradient() -> None:
    policy, ref = token_logps(0).requires_grad_(), token_logps(1).requires_grad_()
    loss = demonstration_sequence_loss(policy, ref, MASK, divergence="rkl").loss.sum()
    found = torch.autograd.grad(loss, (policy, ref), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


def test_input_that_does_not_fit_is_refused() -> None:
    policy, ref = token_logps(0), token_logps(1)
    with pytest.raises(ShapeError, match="divergence is 'jsd', expected one of tv, pearson, hel"):
        demonstration_sequence_loss(policy, ref, MASK, divergence="jsd")  # type: ignore[arg-type]  # refused input
    with pytest.raises(ShapeError, match=r"beta is 0\.0"):
        demonstration_sequence_loss(policy, ref, MASK, beta=0.0, divergence="tv")
    with pytest.raises(ShapeError, match=r"ref_token_logps \[1, 4\]"):
        demonstration_sequence_loss(policy, ref[:1], MASK, divergence="tv")
    with pytest.raises(ShapeError, match=r"mask \[2, 3\]"):
        demonstration_token_loss(policy, ref, MASK[:, :3], t64(2.0), divergence="tv")
