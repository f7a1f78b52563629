"""PPO's token rewards, GAE over holes, whitening, value loss: worked cases and identities."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.actor_critic import (
    adaptive_kl_weight,
    clipped_value_loss,
    masked_gae,
    merge_moments,
    score_at_last_token,
    token_moments,
    token_rewards,
    whiten,
)
from mmalign.objectives.aggregation import batch_counts
from mmalign.testing.golden import t64

MASK = torch.tensor([[0, 1, 1, 0, 0, 1, 1], [1, 1, 0, 1, 0, 0, 0]])


def values(seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(2, 7, generator=source, dtype=torch.float64)


def test_token_rewards_worked_by_hand() -> None:
    """KL 0.2 and -0.1 at weight 0.5; the score 3 goes to the second, the last own token."""
    found = token_rewards(
        t64([3.0]),
        t64([[-1.0, -9.0, -0.6, -9.0]]),
        t64([[-1.2, -1.0, -0.5, -1.0]]),
        torch.tensor([[1, 0, 1, 0]]),
        kl_weight=0.5,
    )
    assert_close(found, t64([[-0.1, 0.0, 3.05, 0.0]]))


def test_gae_worked_by_hand() -> None:
    """gamma 1/2, lambda 1/2, rewards 1 and 2, values 4 and 6, a hole between them.

    The last: A = 2 - 6 = -4. The first: delta = 1 + 6/2 - 4 = 0, A = 0 + (1/4) * -4 = -1.
    """
    found = masked_gae(
        t64([[1.0, 99.0, 2.0]]),
        t64([[4.0, 99.0, 6.0]]),
        torch.tensor([[1, 0, 1]]),
        gamma=0.5,
        gae_lambda=0.5,
    )
    assert found.advantages.tolist() == [[-1.0, 0.0, -4.0]]
    assert found.returns.tolist() == [[3.0, 0.0, 2.0]]


def test_whitening_worked_by_hand() -> None:
    """1 and 3: mean 2, unbiased variance 2; so -+1 / sqrt(2), up to 1e-8 in the root."""
    values, mask = t64([[1.0, 9.0, 3.0]]), torch.tensor([[1, 0, 1]])
    found = whiten(values, mask, token_moments(values, mask))
    root = math.sqrt(0.5)
    assert_close(found, t64([[-root, 0.0, root]]), rtol=1e-8, atol=0)
    kept = whiten(values, mask, token_moments(values, mask), shift_mean=False)
    assert_close(kept, t64([[2 - root, 0.0, 2 + root]]), rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    ("value", "loss", "grad"),
    [
        (1.5, (1.5 - 3) ** 2 / 2, 1.5 - 3),  # free to move: within 1 of the old value 1
        (2.5, (2.0 - 3) ** 2 / 2, 0.0),  # further than the clip on its way to the return
        (-0.5, (-0.5 - 3) ** 2 / 2, -0.5 - 3),  # further, but away from it: pulled back
    ],
)
def test_value_loss_worked_by_hand(value: float, loss: float, grad: float) -> None:
    values, one = t64([[value]], requires_grad=True), torch.tensor([[1]])
    found = clipped_value_loss(
        values, t64([[1.0]]), t64([[3.0]]), one, batch_counts(one), clip_value=1.0
    )
    assert found.loss.item() == pytest.approx(loss, rel=1e-12)
    assert torch.autograd.grad(found.loss.sum(), values)[0].item() == pytest.approx(grad)
    assert found.clipped.item() == (grad == 0)


def test_gae_over_holes_is_gae_with_the_holes_deleted() -> None:
    rewards, critic = values(0), values(1)
    found = masked_gae(rewards, critic, MASK, gamma=0.9, gae_lambda=0.8)
    for row, mask in enumerate(MASK.bool()):
        own = mask.nonzero()[:, 0]
        short = masked_gae(
            rewards[row : row + 1, own],
            critic[row : row + 1, own],
            torch.ones(1, len(own)),
            gamma=0.9,
            gae_lambda=0.8,
        )
        assert_close(found.advantages[row, own], short.advantages[0])
        assert_close(found.returns[row, own], short.returns[0])


def test_what_stands_in_holes_has_no_influence() -> None:
    outside = MASK == 0
    plain = masked_gae(values(0), values(1), MASK, gamma=0.9, gae_lambda=0.8)
    spoilt = masked_gae(
        values(0).masked_fill(outside, math.nan),
        values(1).masked_fill(outside, math.nan),
        MASK,
        gamma=0.9,
        gae_lambda=0.8,
    )
    assert_close(spoilt.advantages, plain.advantages, rtol=0, atol=0)
    assert spoilt.advantages[outside].abs().max().item() == 0
    assert spoilt.returns[outside].abs().max().item() == 0


def test_undiscounted_returns_are_the_rewards_to_go() -> None:
    rewards = values(0) * MASK
    found = masked_gae(rewards, values(1), MASK, gamma=1.0, gae_lambda=1.0)
    to_go = rewards.flip(-1).cumsum(-1).flip(-1) * MASK
    assert_close(found.returns, to_go)


def test_lambda_zero_is_the_one_step_error() -> None:
    ones = torch.ones(2, 7)
    rewards, critic = values(0), values(1)
    found = masked_gae(rewards, critic, ones, gamma=0.9, gae_lambda=0.0)
    following = torch.nn.functional.pad(critic[:, 1:], (0, 1))
    assert_close(found.advantages, rewards + 0.9 * following - critic)


def test_without_a_price_the_rewards_of_a_rollout_add_up_to_its_score() -> None:
    scores = t64([2.5, -1.0])
    found = token_rewards(scores, values(0), values(1), MASK, kl_weight=0.0)
    assert_close(found.sum(-1), scores)
    assert found[0, 6].item() == 2.5
    assert found[1, 3].item() == -1.0


def test_a_rollout_without_tokens_gets_no_reward() -> None:
    mask = torch.tensor([[0, 0], [1, 0]])
    assert score_at_last_token(t64([5.0, 6.0]), mask).tolist() == [[0.0, 0.0], [6.0, 0.0]]


def test_whitened_values_have_mean_zero_and_variance_one() -> None:
    found = whiten(values(0), MASK, token_moments(values(0), MASK))
    inside = found[MASK.bool()]
    assert abs(inside.mean().item()) < 1e-12
    assert inside.var().item() == pytest.approx(1, rel=1e-7)
    assert found[MASK == 0].abs().max().item() == 0


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_merged_moments_are_those_of_the_whole(shift: float) -> None:
    batch = values(0) + shift
    empty = token_moments(batch[:1], torch.zeros_like(MASK[:1]))
    parts = [token_moments(batch[row : row + 1], MASK[row : row + 1]) for row in (0, 1)]
    merged, whole = merge_moments([parts[0], empty, parts[1]]), token_moments(batch, MASK)
    assert merged.num_tokens.item() == whole.num_tokens.item() == 7
    assert_close(merged.mean, whole.mean)
    assert_close(merged.squares, whole.squares, rtol=1e-9, atol=0)


def test_the_clip_never_lowers_the_value_loss() -> None:
    ones, returns = torch.ones(2, 7), values(3)
    counts = batch_counts(ones)
    now, before = values(1), values(2)
    clipped = clipped_value_loss(now, before, returns, ones, counts, clip_value=0.3).loss
    free = clipped_value_loss(now, before, returns, ones, counts, clip_value=100.0).loss
    assert (clipped >= free).all()
    assert (clipped > free).any()
    near = before + (now - before).clamp(-0.3, 0.3)
    assert_close(
        clipped_value_loss(near, before, returns, ones, counts, clip_value=0.3 + 1e-9).loss,
        clipped_value_loss(near, before, returns, ones, counts, clip_value=100.0).loss,
    )


def test_the_value_loss_has_no_gradient_outside_the_mask() -> None:
    outside = MASK == 0
    critic = values(1).masked_fill(outside, math.nan).requires_grad_()
    found = clipped_value_loss(
        critic, values(2), values(3), MASK, batch_counts(MASK), clip_value=0.5
    )
    (grad,) = torch.autograd.grad(found.loss.sum(), critic)
    assert grad[outside].abs().max().item() == 0
    assert grad[~outside].abs().max() > 0
    assert not found.clipped[outside].any()


def test_the_value_gradient_agrees_with_central_differences() -> None:
    def loss(critic: Tensor) -> Tensor:
        return clipped_value_loss(
            critic, values(2), values(3), MASK, batch_counts(MASK), clip_value=0.5
        ).loss

    assert torch.autograd.gradcheck(loss, (values(1).requires_grad_(),), eps=1e-6, atol=1e-6)


def test_nothing_that_precedes_the_loss_carries_gradient() -> None:
    leaf = values(0).requires_grad_()
    assert not token_rewards(leaf[:, 0], leaf, leaf, MASK, kl_weight=0.1).requires_grad
    found = masked_gae(leaf, leaf, MASK, gamma=1.0, gae_lambda=1.0)
    assert not found.returns.requires_grad
    assert not whiten(leaf, MASK, token_moments(leaf, MASK)).requires_grad


def test_the_kl_weight_stays_at_its_target_and_changes_by_a_fifth_at_most() -> None:
    settings: dict[str, Any] = {"target": 0.1, "horizon": 1000, "num_steps": 500}
    assert adaptive_kl_weight(0.05, 0.1, **settings) == 0.05
    assert adaptive_kl_weight(0.05, 9.0, **settings) == pytest.approx(0.05 * 1.1)
    assert adaptive_kl_weight(0.05, -9.0, **settings) == pytest.approx(0.05 * 0.9)
    assert adaptive_kl_weight(0.05, 0.11, **settings) == pytest.approx(0.05 * 1.05)


def test_wrong_shapes_and_settings_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"scores \[3\], last_tokens \[2\]"):
        score_at_last_token(t64([1.0, 2.0, 3.0]), MASK)
    with pytest.raises(ShapeError, match=r"values \[1, 7\]"):
        masked_gae(values(0), values(1)[:1], MASK, gamma=1.0, gae_lambda=1.0)
    with pytest.raises(ShapeError, match=r"gae_lambda is 1\.5"):
        masked_gae(values(0), values(1), MASK, gamma=1.0, gae_lambda=1.5)
    single = torch.tensor([[1, 0]])
    with pytest.raises(ShapeError, match="1 tokens that count, and whitening needs two"):
        whiten(t64([[1.0, 2.0]]), single, token_moments(t64([[1.0, 2.0]]), single))
    with pytest.raises(ShapeError, match="no moments to merge"):
        merge_moments([])
    with pytest.raises(ShapeError, match=r"clip_value is 0\.0"):
        clipped_value_loss(
            values(0), values(1), values(2), MASK, batch_counts(MASK), clip_value=0.0
        )
    with pytest.raises(ShapeError, match="kl is NaN"):
        adaptive_kl_weight(0.1, math.nan, target=0.1, horizon=10, num_steps=1)
