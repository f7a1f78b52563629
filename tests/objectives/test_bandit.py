"""Losses on groups of scored answers: worked cases, identities and limits, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss, ipo_loss
from mmalign.objectives.bandit import (
    bandit_rewards,
    best_of_n_loss,
    data_policy_actions,
    reinforce_loss,
    reward_pairs,
    reward_pairs_loss,
    rwr_loss,
)
from mmalign.testing.golden import t64

LOGPS = t64([[-1.0, -2.0, -4.0], [-3.0, -0.5, -2.5]])
REF_LOGPS = t64([[-1.5, -1.0, -3.0], [-2.0, -1.5, -2.0]])
REWARDS = t64([[0.2, 0.9, 0.2], [0.8, 0.1, 0.5]])


def leaf() -> Tensor:
    return LOGPS.clone().requires_grad_()


@pytest.mark.parametrize(
    ("negative", "loss"), [("none", 2.0), ("worst", 1.5), ("sum", -0.5), ("average", 0.75)]
)
def test_best_of_n_worked_by_hand(negative: str, loss: float) -> None:
    """-lp_best = 2; half of the first worst, -1; of the others' sum, -5; of their mean, -2.5."""
    result = best_of_n_loss(
        LOGPS[:1],
        REWARDS[:1],
        negative=negative,  # type: ignore[arg-type]  # parametrised
        negative_weight=0.5,
    )
    assert result.loss.item() == pytest.approx(loss)
    assert result.best_logps.item() == -2
    assert result.worst_logps.item() == -1


def test_rwr_worked_by_hand() -> None:
    """Weights e^0 = 1 and e^log 2 = 2: (1 * 1 + 2 * 3) / 2 = 3.5."""
    result = rwr_loss(t64([[-1.0, -3.0]]), t64([[0.0, math.log(2)]]), temperature=1.0)
    assert result.loss.item() == pytest.approx(3.5, rel=1e-12)


def test_rwr_weights_are_clipped_where_asked() -> None:
    """Weight 2 clipped to 1.5: (1 * 1 + 1.5 * 3) / 2 = 2.75."""
    result = rwr_loss(
        t64([[-1.0, -3.0]]), t64([[0.0, math.log(2)]]), temperature=1.0, highest_weight=1.5
    )
    assert result.loss.item() == pytest.approx(2.75, rel=1e-12)


def test_reinforce_worked_by_hand() -> None:
    """Advantages 1/2 and -1/2: (0.5 * 1 - 0.5 * 3) / 2 = -0.5; over a std of 2, -0.25."""
    logps, rewards = t64([[-1.0, -3.0]]), t64([[1.0, 0.0]])
    assert reinforce_loss(logps, rewards, baseline=0.5).loss.item() == pytest.approx(-0.5)
    scaled = reinforce_loss(logps, rewards, baseline=t64(0.5), reward_std=2.0)
    assert scaled.loss.item() == pytest.approx(-0.25)


def test_reward_pairs_worked_by_hand() -> None:
    """Rewards 1, 0, 1: 0 beats 1, the later of the tied 0 and 2 counts as better, 2 beats 1."""
    pairs = reward_pairs(t64([[1.0, 0.0, 1.0]]), min_gap=0.5)
    assert pairs.chosen.tolist() == [[0, 2, 2]]
    assert pairs.rejected.tolist() == [[1, 0, 1]]
    assert pairs.kept.tolist() == [[True, False, True]]


@pytest.mark.parametrize("negative", ["worst", "sum", "average"])
def test_without_weight_every_variant_is_best_of_n(negative: str) -> None:
    plain = best_of_n_loss(LOGPS, REWARDS)
    variant = best_of_n_loss(LOGPS, REWARDS, negative=negative)  # type: ignore[arg-type]
    assert_close(variant.loss, plain.loss, rtol=0, atol=0)


def test_the_sum_is_n_minus_1_times_the_average() -> None:
    plain = best_of_n_loss(LOGPS, REWARDS).loss
    total = best_of_n_loss(LOGPS, REWARDS, negative="sum", negative_weight=0.1).loss
    mean = best_of_n_loss(LOGPS, REWARDS, negative="average", negative_weight=0.1).loss
    assert_close(total - plain, 2 * (mean - plain))


def test_the_reference_shifts_best_of_n_but_not_its_gradient() -> None:
    def gradient(ref_logps: Tensor | None) -> tuple[Tensor, Tensor]:
        policy = leaf()
        loss = best_of_n_loss(
            policy, REWARDS, ref_logps, negative="worst", negative_weight=0.1
        ).loss
        return loss.detach(), torch.autograd.grad(loss.sum(), policy)[0]

    (plain, plain_grad), (constrained, constrained_grad) = gradient(None), gradient(REF_LOGPS)
    assert_close(constrained_grad, plain_grad)
    # -(-2 + 1) + 0.1 * (-1 + 1.5) and -(-3 + 2) + 0.1 * (-0.5 + 1.5)
    assert_close(constrained, t64([1.05, 1.1]))
    assert not torch.allclose(constrained, plain)


def test_only_a_negative_gradient_pushes_answers_down() -> None:
    def has_push_down(loss: Tensor, policy: Tensor) -> bool:
        return bool((torch.autograd.grad(loss.sum(), policy)[0] > 0).any())

    policy = leaf()
    assert not has_push_down(best_of_n_loss(policy, REWARDS).loss, policy)
    assert not has_push_down(rwr_loss(policy, REWARDS, temperature=1.0).loss, policy)
    worst = best_of_n_loss(policy, REWARDS, negative="worst", negative_weight=0.1)
    assert has_push_down(worst.loss, policy)
    dpo = reward_pairs_loss(policy, REF_LOGPS, REWARDS, beta=0.1)
    assert has_push_down(dpo.loss, policy)


def test_rwr_at_a_high_temperature_is_fine_tuning_on_all_answers() -> None:
    assert_close(rwr_loss(LOGPS, REWARDS, temperature=1e12).loss, -LOGPS.mean(-1))


def test_dpo_gradients_of_a_group_sum_to_0() -> None:
    policy = leaf()
    loss = reward_pairs_loss(policy, REF_LOGPS, REWARDS, beta=0.1).loss.mean()
    (grad,) = torch.autograd.grad(loss, policy)
    assert_close(grad.sum(-1), t64([0.0, 0.0]), rtol=0, atol=1e-16)
    assert grad.abs().max() > 0.01


def test_the_mean_over_groups_is_the_mean_over_kept_pairs() -> None:
    """Gaps 0.7, 0 and 0.7 in the first group, 0.7, 0.3 and 0.4 in the second: three are kept."""
    found = reward_pairs_loss(LOGPS, REF_LOGPS, REWARDS, beta=0.1, min_gap=0.5).loss.mean()
    chosen = [(0, 1), (0, 1), (1, 0)]
    rejected = [(0, 0), (0, 2), (1, 1)]
    columns = [
        torch.stack([values[place] for place in places])
        for values in (LOGPS, REF_LOGPS)
        for places in (chosen, rejected)
    ]
    assert_close(found, dpo_loss(*columns, beta=0.1).loss.mean())


def test_groups_in_parts_have_the_loss_of_the_whole_batch() -> None:
    whole = reward_pairs_loss(LOGPS, REF_LOGPS, REWARDS, beta=0.1, min_gap=0.5).loss
    parts = [
        reward_pairs_loss(
            LOGPS[rows],
            REF_LOGPS[rows],
            REWARDS[rows],
            beta=0.1,
            min_gap=0.5,
            kept_per_group=t64(1.5),
        ).loss
        for rows in (slice(0, 1), slice(1, 2))
    ]
    assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("pair_loss", ["dpo", "ipo", "ipo_code"])
def test_without_a_kept_pair_there_is_no_loss_and_no_gradient(pair_loss: str) -> None:
    policy = leaf()
    result = reward_pairs_loss(
        policy,
        REF_LOGPS,
        REWARDS,
        beta=0.1,
        min_gap=5.0,
        pair_loss=pair_loss,  # type: ignore[arg-type]  # parametrised
    )
    (grad,) = torch.autograd.grad(result.loss.mean(), policy)
    assert result.loss.tolist() == [0.0, 0.0]
    assert grad.abs().max() == 0


def test_the_codes_ipo_seeks_the_margin_beta() -> None:
    two = (LOGPS[:, :2], REF_LOGPS[:, :2], t64([[1.0, 0.0], [1.0, 0.0]]))
    d = (LOGPS - REF_LOGPS)[:, 0] - (LOGPS - REF_LOGPS)[:, 1]
    found = reward_pairs_loss(*two, beta=0.4, pair_loss="ipo_code").loss
    assert_close(found, (d - 0.4) ** 2)
    columns = (LOGPS[:, 0], LOGPS[:, 1], REF_LOGPS[:, 0], REF_LOGPS[:, 1])
    paper = reward_pairs_loss(*two, beta=0.4, pair_loss="ipo").loss
    assert_close(paper, ipo_loss(*columns, beta=0.4).loss)


def test_bandit_rewards_peak_at_1() -> None:
    """At 0.2, R1 = exp(-(0.5 / 0.75)^2) = exp(-4/9) and R2 = exp(-(0.5 / 0.25)^2) = exp(-4)."""
    found = bandit_rewards(t64([0.7, -0.7, 0.2]))
    assert_close(found.r1[[0, 2]], t64([1.0, math.exp(-4 / 9)]))
    assert_close(found.r2[[0, 2]], t64([1.0, math.exp(-4)]))
    assert found.r3[1] == 1
    assert max(found.r1.max(), found.r2.max(), found.r3.max()) <= 1


def test_the_data_policy_has_its_median_below_the_first_peak() -> None:
    actions = data_policy_actions(t64([0.25, 0.5, 0.75]))
    # quartiles of a Cauchy variable lie one scale from its location
    assert_close(actions, torch.tanh(t64([-1.1, -0.7, -0.3])))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"N >= 2 answers, found rewards \[2, 1\]"):
        reward_pairs(REWARDS[:, :1])
    with pytest.raises(ShapeError, match=r"N >= 2 answers"):
        best_of_n_loss(LOGPS[:, :1], REWARDS[:, :1], negative="worst")
    with pytest.raises(ShapeError, match=r"rewards \[2, 2\]"):
        best_of_n_loss(LOGPS, REWARDS[:, :2])
    with pytest.raises(ShapeError, match=r"ref_logps \[2, 2\]"):
        best_of_n_loss(LOGPS, REWARDS, REF_LOGPS[:, :2])
    with pytest.raises(ShapeError, match=r"ref_logps \[3\]"):
        reward_pairs_loss(LOGPS, REF_LOGPS[0], REWARDS, beta=0.1)
    with pytest.raises(ShapeError, match="min_gap is -1"):
        reward_pairs(REWARDS, min_gap=-1)
    with pytest.raises(ShapeError, match="temperature is 0"):
        rwr_loss(LOGPS, REWARDS, temperature=0)
    with pytest.raises(ShapeError, match="reward_std is 0"):
        reinforce_loss(LOGPS, REWARDS, baseline=0.0, reward_std=0)
    with pytest.raises(ShapeError, match=r"beta is -0\.1"):
        reward_pairs_loss(LOGPS, REF_LOGPS, REWARDS, beta=-0.1)
