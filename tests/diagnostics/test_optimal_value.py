"""The optimal value of a reward, computed and read off the calibration policy."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.diagnostics.optimal_value import (
    centred_reward,
    optimal_value,
    value_from_calibration,
)
from mmalign.diagnostics.tabular import kl_divergence, tilted_policy
from mmalign.errors import ShapeError
from mmalign.testing.golden import t64


def numbers(seed: int) -> Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REF, CALIBRATION, REWARD = numbers(0).log_softmax(-1), numbers(1).softmax(-1), numbers(2)


def test_a_value_worked_by_hand() -> None:
    """0.5 * log(1/2 * e^(1/0.5) + 1/2) for rewards 1 and 0 under a fair coin."""
    value = optimal_value(t64([0.5, 0.5]).log(), t64([1.0, 0.0]), beta=0.5)
    assert value.item() == pytest.approx(0.5 * math.log((math.e**2 + 1) / 2), rel=1e-12)


def test_the_tilted_policy_attains_the_value() -> None:
    policy = tilted_policy(REF, REWARD, beta=0.3)
    attained = (policy.exp() * REWARD).sum(-1) - 0.3 * kl_divergence(policy, REF)
    assert_close(attained, optimal_value(REF, REWARD, beta=0.3), rtol=1e-12, atol=1e-12)


def test_a_centred_reward_has_mean_0_under_the_calibration_policy() -> None:
    mean = (CALIBRATION * centred_reward(REWARD, CALIBRATION)).sum(-1)
    assert_close(mean, torch.zeros(3).double(), rtol=0, atol=1e-14)


def test_the_calibration_policy_tells_the_value_of_a_centred_reward() -> None:
    reward = centred_reward(REWARD, CALIBRATION)
    policy = tilted_policy(REF, reward, beta=0.3)
    told = value_from_calibration(policy, REF, CALIBRATION, beta=0.3)
    assert_close(told, optimal_value(REF, reward, beta=0.3), rtol=1e-12, atol=1e-12)


def test_of_a_reward_that_is_not_centred_it_tells_the_value_less_the_mean() -> None:
    policy = tilted_policy(REF, REWARD, beta=0.3)
    told = value_from_calibration(policy, REF, CALIBRATION, beta=0.3)
    expected = optimal_value(REF, REWARD, beta=0.3) - (CALIBRATION * REWARD).sum(-1)
    assert_close(told, expected, rtol=1e-12, atol=1e-12)


def test_tables_of_other_answers_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"calibration_probs \[3, 4\]"):
        centred_reward(REWARD, CALIBRATION[:, :4])
    with pytest.raises(ShapeError, match=r"reward \[3, 4\]"):
        optimal_value(REF, REWARD[:, :4], beta=0.3)
    with pytest.raises(ShapeError, match=r"beta is 0\.0"):
        value_from_calibration(REF, REF, CALIBRATION, beta=0.0)
