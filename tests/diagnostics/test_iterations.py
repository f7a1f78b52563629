"""Accelerated preference optimisation on tables: recursion, closed form, limits."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.diagnostics.iterations import accelerated_policies, accelerated_rewards
from mmalign.diagnostics.tabular import tilted_policy
from mmalign.errors import ShapeError
from mmalign.testing.golden import t64


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REF = numbers(2, 4).log_softmax(-1)
REWARDS = numbers(3, 2, 4, seed=1)


def test_rewards_worked_by_hand() -> None:
    """alpha 1/2: the first reward counts 1, 1.5, 1.75 times, the second 0, 1, 1.5 times."""
    found = accelerated_rewards(t64([[1.0], [10.0], [100.0]]), alpha=0.5)
    assert found.tolist() == [[1.0], [11.5], [116.75]]


def test_the_recursion_is_the_closed_form() -> None:
    found = accelerated_policies(REF, REWARDS, alpha=0.3, beta=0.5).trained
    for t, total in enumerate(accelerated_rewards(REWARDS, alpha=0.3)):
        assert_close(found[t + 1], tilted_policy(REF, total, beta=0.5), rtol=1e-12, atol=1e-12)


def test_without_momentum_each_iteration_starts_where_the_last_one_ended() -> None:
    found = accelerated_policies(REF, REWARDS, alpha=0.0, beta=0.5)
    assert_close(found.extrapolated, found.trained, rtol=1e-12, atol=1e-14)
    assert_close(found.trained[-1], tilted_policy(REF, REWARDS.sum(0), beta=0.5))


def test_the_first_momentum_is_away_from_the_reference() -> None:
    found = accelerated_policies(REF, REWARDS, alpha=0.3, beta=0.5)
    expected = tilted_policy(REF, 1.3 * REWARDS[0], beta=0.5)
    assert_close(found.extrapolated[1], expected, rtol=1e-12, atol=1e-12)


def test_all_policies_are_normalised() -> None:
    found = accelerated_policies(REF, REWARDS, alpha=0.6, beta=0.1)
    for policies in found:
        total = policies.exp().sum(-1)
        assert_close(total, torch.ones_like(total), rtol=1e-12, atol=0)


def test_the_order_of_iterations_matters() -> None:
    there, back = (
        accelerated_policies(REF, rewards, alpha=0.3, beta=0.5).trained[-1]
        for rewards in (REWARDS, REWARDS.flip(0))
    )
    assert (there - back).abs().max() > 1e-2


def test_momentum_of_1_and_rewards_of_other_answers_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"alpha is 1\.0"):
        accelerated_rewards(REWARDS, alpha=1.0)
    with pytest.raises(ShapeError, match=r"alpha is 1\.0"):
        accelerated_policies(REF, REWARDS, alpha=1.0, beta=0.5)
    with pytest.raises(ShapeError, match=r"reward \[2, 3\]"):
        accelerated_policies(REF, REWARDS[..., :3], alpha=0.3, beta=0.5)
