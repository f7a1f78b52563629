"""Tilted policies and their divergences."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.diagnostics.tabular import kl_divergence, tilted_policy
from mmalign.errors import ShapeError
from mmalign.testing.golden import t64

REF = t64([0.2, 0.5, 0.3]).log()
HELPFUL, SAFE = t64([1.0, -0.5, 2.0]), t64([0.3, 0.9, -1.2])


def test_tilted_policy_worked_by_hand() -> None:
    """Reward log 3 at beta 1 triples the first weight: 3/2 and 1/2, so 3/4 and 1/4."""
    half = t64([0.5, 0.5]).log()
    found = tilted_policy(half, t64([math.log(3), 0.0]), beta=1.0)
    assert_close(found.exp(), t64([0.75, 0.25]), rtol=1e-12, atol=0)


def test_kl_worked_by_hand() -> None:
    """1/2 log(1/2 / 3/4) + 1/2 log(1/2 / 1/4) = 1/2 log(4/3)."""
    found = kl_divergence(t64([0.5, 0.5]).log(), t64([0.75, 0.25]).log())
    assert found.item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-12)


def test_two_steps_are_one_step_in_either_order() -> None:
    beta, multiplier = 0.1, 4.0
    at_once = tilted_policy(REF, HELPFUL + multiplier * SAFE, beta=beta)
    helpful_first = tilted_policy(
        tilted_policy(REF, HELPFUL, beta=beta), SAFE, beta=beta / multiplier
    )
    safe_first = tilted_policy(tilted_policy(REF, SAFE, beta=beta / multiplier), HELPFUL, beta=beta)
    assert_close(helpful_first, at_once, rtol=1e-12, atol=0)
    assert_close(safe_first, at_once, rtol=1e-12, atol=0)


def test_a_large_beta_returns_the_reference_and_a_small_one_the_best_answer() -> None:
    assert_close(tilted_policy(REF, SAFE, beta=1e15), REF, rtol=1e-12, atol=0)
    assert_close(tilted_policy(REF, SAFE, beta=1e-3).exp(), t64([0.0, 1.0, 0.0]))


def test_the_best_answer_is_sought_inside_the_support_only() -> None:
    outside = t64([0.5, 0.0, 0.5]).log()
    assert_close(tilted_policy(outside, SAFE, beta=1e-3).exp(), t64([1.0, 0.0, 0.0]))


def test_entries_that_underflow_keep_their_digits() -> None:
    found = tilted_policy(t64([0.5, 0.5]).log(), t64([0.0, 900.0]), beta=1.0)
    assert found[0].item() == pytest.approx(-900.0, rel=1e-15)


def test_the_tilted_policy_beats_its_neighbours() -> None:
    """It maximises E[reward] - beta * KL(policy || reference)."""
    beta = 0.7

    def value(logprobs: torch.Tensor) -> float:
        reward = (logprobs.exp() * HELPFUL).sum()
        return (reward - beta * kl_divergence(logprobs, REF)).item()

    best = tilted_policy(REF, HELPFUL, beta=beta)
    for step in ([0.1, 0.0, 0.0], [0.0, -0.1, 0.0], [0.0, 0.0, 0.1]):
        assert value((best + t64(step)).log_softmax(-1)) < value(best)


def test_kl_is_zero_for_equal_policies_and_infinite_outside_the_support() -> None:
    excluded = t64([1.0, 0.0]).log()
    half = t64([0.5, 0.5]).log()
    assert kl_divergence(REF, REF).item() == pytest.approx(0.0, abs=1e-15)
    assert kl_divergence(excluded, half).item() == pytest.approx(math.log(2), rel=1e-12)
    assert kl_divergence(half, excluded).item() == math.inf


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"reward \[2\]"):
        tilted_policy(REF, t64([1.0, 2.0]), beta=0.1)
    with pytest.raises(ShapeError, match="beta is 0, expected a positive finite number"):
        tilted_policy(REF, HELPFUL, beta=0)
    with pytest.raises(ShapeError, match=r"other_logprobs \[1, 3\]"):
        kl_divergence(REF, REF[None])
