"""The preference model: skew symmetry, circles, Bradley-Terry as a special case."""

import math

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.preference_model import (
    preference_logits,
    preference_model_loss,
    preference_scores,
    prompt_block_scales,
)
from mmalign.testing.golden import t64


def embeddings(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def test_a_score_worked_by_hand() -> None:
    """Blocks 1 * 4 - 2 * 3 = -2 and 0 * 2 - 1 * 1 = -1; with scales 1 and 0.5: -2.5."""
    first, second = t64([[1.0, 2.0, 0.0, 1.0]]), t64([[3.0, 4.0, 1.0, 2.0]])
    assert preference_scores(first, second).tolist() == [-3.0]
    assert preference_scores(first, second, t64([[1.0, 0.5]])).tolist() == [-2.5]


def test_the_loss_worked_by_hand() -> None:
    """Score 1, margin 0.5, tau 0.5: loss = log(1 + e^-1); the probability ignores the margin."""
    result = preference_model_loss(t64([[1.0, 0.0]]), t64([[0.0, 1.0]]), tau=0.5, margin=0.5)
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-1)), rel=1e-12)
    assert result.probs.item() == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-12)


def test_scores_change_their_sign_with_the_order() -> None:
    first, second, scales = embeddings(3, 6), embeddings(3, 6, seed=1), t64([[1.0, 0.2, 3.0]] * 3)
    there, back = (preference_scores(*pair, scales) for pair in ((first, second), (second, first)))
    assert_close(back, -there, rtol=0, atol=0)
    assert preference_scores(first, first, scales).tolist() == [0, 0, 0]


def test_a_scalar_reward_beside_1_is_bradley_terry() -> None:
    rewards = t64([[0.7], [-1.2]])
    chosen, rejected = torch.cat([rewards, torch.ones_like(rewards)], -1)
    result = preference_model_loss(chosen[None], rejected[None], tau=0.1)
    assert result.scores.item() == pytest.approx(1.9, rel=1e-12)
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-19)), rel=1e-9)


def test_three_unit_vectors_prefer_each_other_in_a_circle() -> None:
    angles = 2 * math.pi / 3 * torch.arange(3, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()], -1)
    probs = preference_logits(circle[None], tau=0.1)[0].sigmoid()
    assert min(probs[0, 1], probs[1, 2], probs[2, 0]) > 0.99


def test_turning_all_embeddings_of_a_block_changes_nothing() -> None:
    samples = embeddings(2, 4, 2)
    turn = t64([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    found = preference_logits(samples @ turn.T, tau=0.1)
    assert_close(found, preference_logits(samples, tau=0.1), rtol=1e-9, atol=1e-12)


def test_the_table_holds_the_score_of_each_pair() -> None:
    samples, scales = embeddings(2, 3, 4), t64([[1.0, 2.0], [0.5, 0.0]])
    table = preference_logits(samples, scales, tau=0.5)
    one = preference_scores(samples[:, 2], samples[:, 0], scales) / 0.5
    assert_close(table[:, 2, 0], one, rtol=1e-12, atol=0)
    assert_close(table, -table.mT, rtol=0, atol=0)


def test_equal_embeddings_cost_log_2() -> None:
    same = embeddings(3, 4)
    result = preference_model_loss(same, same, tau=0.1)
    assert_close(result.loss, torch.full_like(result.loss, math.log(2)), rtol=1e-12, atol=0)


def test_block_scales_of_a_prompt_have_mean_1() -> None:
    scales = prompt_block_scales(embeddings(5, 4))
    assert_close(scales.mean(-1), torch.ones(5).double(), rtol=1e-12, atol=0)
    assert prompt_block_scales(t64([0.0, math.log(3)])).tolist() == pytest.approx([0.5, 1.5])


def test_embeddings_that_do_not_fit_are_refused() -> None:
    odd = embeddings(2, 3)
    with pytest.raises(ShapeError, match="embeddings have 3 numbers, expected an even number"):
        preference_scores(odd, odd)
    even = embeddings(2, 4)
    with pytest.raises(ShapeError, match=r"second \[2, 2\]"):
        preference_scores(even, even[:, :2])
    with pytest.raises(ShapeError, match=r"block_scales is \[2, 1\], expected \[2, 2\]"):
        preference_scores(even, even, torch.ones(2, 1))
    with pytest.raises(ShapeError, match=r"embeddings is \[2, 4\], expected \[B, K, 2k\]"):
        preference_logits(even, tau=0.1)
    with pytest.raises(ShapeError, match=r"tau is 0\.0"):
        preference_model_loss(even, even, tau=0.0)
