"""Lists of ranked responses: worked case, identities and limits, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives import dpo_loss
from mmalign.objectives.listwise import (
    aligned_step_count,
    judge_values,
    merge_late_steps,
    rank_gap_weights,
    ranks_in_order,
    step_margins,
    tpo_tree_loss,
)
from mmalign.objectives.stepwise import step_sums
from mmalign.testing.golden import t64

VALUES = t64([[1.0, 0.2, 0.6, 0.4], [0.3, 0.3, 0.9, 0.1]])


def random(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def test_tpo_worked_by_hand() -> None:
    """One step, log-ratios 2 and 0, equal embeddings: margin (1 + 1) * (2 - 0) = 4.

    lambda = |2^1 - 2^0| * |1/ln 2 - 1/ln 3| = 0.532456, loss = lambda * log(1 + e^-4).
    """
    result = tpo_tree_loss(
        t64([[[2.0], [0.0]]]),
        t64([[[0.0], [0.0]]]),
        t64([[1.0, 0.0]]),
        t64([[[[3.0, 4.0]], [[0.6, 0.8]]]]),
        beta=1.0,
    )
    weight = 1 / math.log(2) - 1 / math.log(3)
    assert weight == pytest.approx(0.532456, abs=1e-6)
    assert result.loss.item() == pytest.approx(weight * math.log1p(math.exp(-4)), rel=1e-12)
    assert_close(result.margins, t64([[[0.0, 4.0], [-4.0, 0.0]]]))
    assert_close(result.rewards, t64([[2.0, 0.0]]))


def test_two_responses_without_weights_are_dpo() -> None:
    policy, ref = random(3, 2, 4), random(3, 2, 4, seed=1)
    result = tpo_tree_loss(policy, ref, t64([[0.9, 0.1]] * 3), beta=0.3, weigh_ranks=False)
    sums = [values.sum(-1)[:, side] for values in (policy, ref) for side in (0, 1)]
    assert_close(result.loss, dpo_loss(*sums, beta=0.3).loss, rtol=1e-12, atol=0)


def test_margins_are_antisymmetric_and_grow_with_beta() -> None:
    policy, ref, embeddings = random(2, 4, 3), random(2, 4, 3, seed=1), random(2, 4, 3, 5, seed=2)
    margins = step_margins(policy, ref, embeddings, beta=0.5)
    assert_close(margins, -margins.transpose(1, 2), rtol=1e-12, atol=1e-14)
    assert_close(step_margins(policy, ref, embeddings, beta=1.5), 3 * margins)


def test_a_step_that_two_responses_share_adds_nothing() -> None:
    policy, ref, embeddings = random(1, 2, 3), random(1, 2, 3, seed=1), random(1, 2, 3, 5, seed=2)
    policy[0, 1, 0], ref[0, 1, 0] = policy[0, 0, 0], ref[0, 0, 0]
    embeddings[0, 1, 0] = embeddings[0, 0, 0]
    whole = step_margins(policy, ref, embeddings, beta=0.5)
    later = step_margins(policy[..., 1:], ref[..., 1:], embeddings[..., 1:, :], beta=0.5)
    assert_close(whole, later, rtol=1e-12, atol=1e-15)


def test_a_zero_embedding_has_the_cosine_0() -> None:
    policy, ref = random(1, 2, 1), random(1, 2, 1, seed=1)
    embeddings = t64([[[[0.0, 0.0]], [[1.0, 2.0]]]])
    weighted = step_margins(policy, ref, embeddings, beta=0.5)
    assert_close(weighted, step_margins(policy, ref, beta=0.5))


def test_equal_values_give_no_loss_and_no_gradient() -> None:
    policy = random(1, 3, 2).requires_grad_()
    result = tpo_tree_loss(policy, random(1, 3, 2, seed=1), t64([[0.5] * 3]), beta=0.5)
    assert result.loss.item() == 0
    assert torch.autograd.grad(result.loss.sum(), policy)[0].abs().max() == 0


def test_rank_weights_are_symmetric_constants() -> None:
    rewards = random(2, 4).requires_grad_()
    weights = rank_gap_weights(VALUES, rewards)
    assert_close(weights, weights.transpose(1, 2))
    assert weights.diagonal(dim1=1, dim2=2).abs().max() == 0
    assert weights[1, 0, 1] == 0
    assert not weights.requires_grad


def test_embeddings_carry_no_gradient() -> None:
    policy = random(1, 2, 3).requires_grad_()
    embeddings = random(1, 2, 3, 4, seed=2).requires_grad_()
    result = tpo_tree_loss(policy, policy.detach() + 1, VALUES[:1, :2], embeddings, beta=0.5)
    grads = torch.autograd.grad(result.loss.sum(), (policy, embeddings), allow_unused=True)
    assert grads[0].abs().max() > 0
    assert grads[1] is None


def test_a_perfect_ranking_with_large_margins_has_no_loss() -> None:
    policy = t64([[[400.0], [200.0], [0.0]]])
    result = tpo_tree_loss(policy, 0 * policy, t64([[1.0, 0.5, 0.0]]), beta=0.5)
    assert 0 <= result.loss.item() < 1e-20


def test_the_order_of_the_list_does_not_matter() -> None:
    policy, ref, embeddings = random(2, 4, 3), random(2, 4, 3, seed=1), random(2, 4, 3, 5, seed=2)
    order = [2, 0, 3, 1]
    there = tpo_tree_loss(policy, ref, VALUES, embeddings, beta=0.5)
    back = tpo_tree_loss(
        policy[:, order], ref[:, order], VALUES[:, order], embeddings[:, order], beta=0.5
    )
    assert_close(back.loss, there.loss, rtol=1e-12, atol=0)


def test_of_equal_rewards_the_smaller_index_ranks_first() -> None:
    assert ranks_in_order(t64([[1.0, 3.0, 1.0, 3.0]])).tolist() == [[3, 1, 4, 2]]


def test_merging_late_steps_keeps_the_reward() -> None:
    ids, values = torch.tensor([[-1, 0, 0, 1, 2, 3]]), t64([[9.0, 1.0, 2.0, 4.0, 8.0, 16.0]])
    merged = step_sums(values, merge_late_steps(ids, num_steps=2), num_steps=2)
    assert merged.tolist() == [[3.0, 28.0]]
    assert merged.sum() == step_sums(values, ids, num_steps=4).sum()


def test_judge_values_run_from_0_to_1() -> None:
    assert judge_values([-100, 0, 100]) == [0.0, 0.5, 1.0]
    assert aligned_step_count([4, 2, 3]) == 2


@pytest.mark.parametrize("score", [-100.5, 101, math.nan])
def test_a_score_out_of_range_is_refused(score: float) -> None:
    with pytest.raises(RecordError, match=r"response 1 has the score .*expected one in"):
        judge_values([0.0, score])


def test_wrong_shapes_are_refused_by_name() -> None:
    steps = random(2, 4, 3)
    with pytest.raises(ShapeError, match=r"values \[B, N\] = \[2, 4\].*found \[2, 1\]"):
        tpo_tree_loss(steps, steps, t64([[1.0], [0.0]]), beta=0.5)
    with pytest.raises(ShapeError, match=r"step_embeddings .* = \[2, 4, 3\], found \[2, 4, 5\]"):
        tpo_tree_loss(steps, steps, VALUES, random(2, 4, 5), beta=0.5)
    with pytest.raises(ShapeError, match=r"ref_step_logps \[2, 4\]"):
        step_margins(steps, steps.sum(-1), beta=0.5)
    with pytest.raises(ShapeError, match=r"policy_step_logps \[B, N, S\], found \[2, 4\]"):
        step_margins(steps.sum(-1), steps.sum(-1), beta=0.5)
    with pytest.raises(ShapeError, match="beta is 0"):
        step_margins(steps, steps, beta=0)


def test_a_response_without_a_step_is_refused() -> None:
    with pytest.raises(RecordError, match="at least one response and one step"):
        aligned_step_count([3, 0])
