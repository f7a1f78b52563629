"""Squared losses of self-play: worked cases, limits, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import ipo_loss, parse_objective
from mmalign.objectives.nash import (
    gpo_loss,
    inpo_loss,
    mixed_reference,
    online_ipo_loss,
    self_play_loss,
    sppo_hard_loss,
    sppo_loss,
)
from mmalign.testing.golden import t64


def logps(num: int, seed: int = 0) -> list[Tensor]:
    """That many vectors of four summed log-probabilities."""
    source = torch.Generator().manual_seed(seed)
    return [-20 * torch.rand(4, generator=source, dtype=torch.float64) for _ in range(num)]


def test_inpo_worked_by_hand() -> None:
    """h = log-ratio 4 - 1/4 * 2 - 3/4 * 2 = 2 and 1 / (2 * 0.2) = 2.5, so loss = 0.5^2."""
    result = inpo_loss(
        t64([-1.0]), t64([-5.0]), t64([-2.0]), t64([-4.0]), t64([-3.0]), t64([-5.0]),
        eta=0.2, tau=0.05,
    )  # fmt: skip
    assert result.metrics["log_ratio_margin"].item() == pytest.approx(2.0, rel=1e-12)
    assert result.loss.item() == pytest.approx(0.25, rel=1e-12)
    assert result.chosen_rewards.item() == pytest.approx(0.2 * (-1 + 2.75), rel=1e-12)


def test_inpo_with_tau_of_eta_is_ipo_against_the_reference() -> None:
    chosen, rejected, ref_chosen, ref_rejected, old_chosen, old_rejected = logps(6)
    found = inpo_loss(
        chosen, rejected, ref_chosen, ref_rejected, old_chosen, old_rejected, eta=0.1, tau=0.1
    )
    expected = ipo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1)
    assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)


def test_inpo_without_tau_is_ipo_against_the_old_policy() -> None:
    chosen, rejected, ref_chosen, ref_rejected, old_chosen, old_rejected = logps(6)
    found = inpo_loss(
        chosen, rejected, ref_chosen, ref_rejected, old_chosen, old_rejected, eta=0.1, tau=0.0
    )
    expected = ipo_loss(chosen, rejected, old_chosen, old_rejected, beta=0.1)
    assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)


def test_in_inpos_first_iteration_tau_drops_out() -> None:
    chosen, rejected, ref_chosen, ref_rejected = logps(4)
    losses = [
        inpo_loss(
            chosen, rejected, ref_chosen, ref_rejected, ref_chosen, ref_rejected, eta=0.3, tau=tau
        ).loss
        for tau in (0.0, 0.1, 0.3)
    ]
    assert_close(losses[1], losses[0], rtol=1e-12, atol=0)
    assert_close(losses[2], losses[0], rtol=1e-12, atol=0)


def test_inpo_where_all_models_agree_is_the_square_of_half_over_eta() -> None:
    chosen, rejected = logps(2)
    result = inpo_loss(chosen, rejected, chosen, rejected, chosen, rejected, eta=0.005, tau=0.002)
    assert_close(result.loss, torch.full_like(chosen, 1 / (4 * 0.005**2)), rtol=1e-9, atol=0)


def test_the_mixed_reference_carries_no_gradient() -> None:
    ref, old = t64([-1.0], requires_grad=True), t64([-2.0], requires_grad=True)
    mixed = mixed_reference(ref, old, eta=0.4, tau=0.1)
    assert mixed.item() == pytest.approx(-1.75, rel=1e-12)
    assert not mixed.requires_grad


@pytest.mark.parametrize(
    ("eta", "tau", "message"),
    [
        (0.1, 0.2, "tau is 0.2, expected 0 <= tau <= eta = 0.1"),
        (0.1, -0.1, "tau is -0.1"),
        (0.0, 0.0, "eta is 0.0, expected a positive"),
        (0.1, math.nan, "tau is nan"),
    ],
)
def test_inpos_settings_out_of_range_are_refused(eta: float, tau: float, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        inpo_loss(*logps(6), eta=eta, tau=tau)


def test_inpo_refuses_an_old_policy_of_another_batch() -> None:
    chosen, rejected, ref_chosen, ref_rejected = logps(4)
    with pytest.raises(ShapeError, match=r"old_logps \[3\]"):
        inpo_loss(
            chosen, rejected, ref_chosen, ref_rejected, chosen[:3], rejected[:3], eta=0.1, tau=0.1
        )


def test_online_ipo_worked_by_hand() -> None:
    """Margin (-2 + 3) - (-4 + 3) = 2, target (0.75 - 0.25) / 0.5 = 1, so loss = 1."""
    result = online_ipo_loss(
        t64([-2.0]), t64([-4.0]), t64([-3.0]), t64([-3.0]), t64([0.75]), t64([0.25]), beta=0.5
    )
    assert result.margins.item() == pytest.approx(2.0, rel=1e-12)
    assert result.loss.item() == pytest.approx(1.0, rel=1e-12)


def test_online_ipo_per_token_worked_by_hand() -> None:
    """Margin (-2 + 3) / 2 - (-4 + 3) / 4 = 0.75, target 1, so loss = 1/16."""
    result = online_ipo_loss(
        t64([-2.0]), t64([-4.0]), t64([-3.0]), t64([-3.0]), t64([0.75]), t64([0.25]), beta=0.5,
        first_tokens=t64([2]), second_tokens=t64([4]),
    )  # fmt: skip
    assert result.loss.item() == pytest.approx(1 / 16, rel=1e-12)


def test_online_ipo_does_not_care_which_sample_is_first() -> None:
    first, second, ref_first, ref_second, wins, other_wins = logps(6)
    wins, other_wins = wins.sigmoid(), other_wins.sigmoid()
    there = online_ipo_loss(first, second, ref_first, ref_second, wins, other_wins, beta=0.1)
    back = online_ipo_loss(second, first, ref_second, ref_first, other_wins, wins, beta=0.1)
    assert_close(back.loss, there.loss, rtol=1e-12, atol=0)
    assert_close(back.margins, -there.margins, rtol=0, atol=0)


def test_online_ipo_ignores_a_constant_added_to_policy_and_reference() -> None:
    first, second, ref_first, ref_second, wins, other_wins = logps(6)
    plain = online_ipo_loss(first, second, ref_first, ref_second, wins, other_wins, beta=0.1)
    moved = online_ipo_loss(
        first + 3, second + 3, ref_first + 3, ref_second + 3, wins, other_wins, beta=0.1
    )
    assert_close(moved.loss, plain.loss, rtol=1e-12, atol=1e-12)


def test_online_ipo_with_a_difference_of_half_is_ipo() -> None:
    chosen, rejected, ref_chosen, ref_rejected = logps(4)
    half, none = torch.full_like(chosen, 0.5), torch.zeros_like(chosen)
    found = online_ipo_loss(chosen, rejected, ref_chosen, ref_rejected, half, none, beta=0.2)
    expected = ipo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.2)
    assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)


def test_online_ipo_moves_only_the_policy_and_both_samples_against_each_other() -> None:
    leaves = [values.requires_grad_() for values in logps(6)]
    loss = online_ipo_loss(*leaves, beta=0.1).loss.sum()
    first, second, *others = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert others == [None] * 4
    assert first.abs().min() > 0
    assert_close(second, -first, rtol=0, atol=0)


def test_online_ipo_refuses_token_counts_of_one_side() -> None:
    with pytest.raises(ShapeError, match="token counts of one side only"):
        online_ipo_loss(*logps(6), beta=0.1, first_tokens=t64([1, 1, 1, 1]))


def test_online_ipo_refuses_a_column_by_name() -> None:
    first, second, ref_first, ref_second, wins, other_wins = logps(6)
    with pytest.raises(ShapeError, match=r"first_win_rates \[4, 1\]"):
        online_ipo_loss(first, second, ref_first, ref_second, wins[:, None], other_wins, beta=0.1)


def test_gpo_worked_by_hand() -> None:
    """Gaps 1 - 0.3 / 0.1 = -2 and -1 + 0.4 / 0.1 = 3, so loss = (4 + 9) / 2."""
    result = gpo_loss(
        t64([-1.0]), t64([-3.0]), t64([-2.0]), t64([-2.0]), t64([0.3]), t64([-0.4]), beta=0.1
    )
    assert result.loss.item() == pytest.approx(6.5, rel=1e-12)
    assert result.chosen_rewards.item() == pytest.approx(0.1, rel=1e-12)


def test_sppo_takes_half_off_the_win_rates() -> None:
    """Gaps 1 - 0.3 / 0.1 = -2 and -1 + 0.4 / 0.1 = 3 from win rates 0.8 and 0.1."""
    result = sppo_loss(
        t64([-1.0]), t64([-3.0]), t64([-2.0]), t64([-2.0]), t64([0.8]), t64([0.1]), beta=0.1
    )
    assert result.loss.item() == pytest.approx(6.5, rel=1e-12)


def test_sppo_of_ties_only_anchors_the_policy() -> None:
    chosen, rejected, ref_chosen, ref_rejected = logps(4)
    ties = torch.full_like(chosen, 0.5)
    result = sppo_loss(chosen, rejected, ref_chosen, ref_rejected, ties, ties, beta=0.001)
    anchored = ((chosen - ref_chosen).square() + (rejected - ref_rejected).square()) / 2
    assert_close(result.loss, anchored, rtol=1e-12, atol=0)


def test_sppo_with_labels_is_smallest_at_log_ratios_of_half_over_beta() -> None:
    chosen = t64([2.5], requires_grad=True)
    rejected = t64([-2.5], requires_grad=True)
    result = sppo_hard_loss(chosen, rejected, t64([0.0]), t64([0.0]), beta=0.2)
    assert result.loss.item() == 0
    assert [g.item() for g in torch.autograd.grad(result.loss.sum(), (chosen, rejected))] == [0, 0]


def test_sppo_with_labels_at_the_reference_is_the_square_of_half_over_beta() -> None:
    chosen, rejected = logps(2)
    result = parse_objective({"name": "sppo_hard"}).objective.fn(
        chosen, rejected, chosen, rejected, beta=0.1
    )
    assert_close(result.loss, torch.full_like(chosen, 1 / (4 * 0.1**2)), rtol=1e-12, atol=0)


def test_gpo_targets_carry_no_gradient() -> None:
    leaves = [values.requires_grad_() for values in logps(6)]
    loss = gpo_loss(*leaves, beta=0.1).loss.sum()
    first, *_, for_chosen, for_rejected = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert first.abs().min() > 0
    assert [for_chosen, for_rejected] == [None, None]


def test_gpo_refuses_targets_of_another_batch_and_a_beta_of_zero() -> None:
    chosen, rejected, ref_chosen, ref_rejected, *targets = logps(6)
    with pytest.raises(ShapeError, match=r"chosen_targets \[2\]"):
        gpo_loss(chosen, rejected, ref_chosen, ref_rejected, targets[0][:2], targets[1], beta=0.1)
    with pytest.raises(ShapeError, match=r"beta is 0\.0"):
        gpo_loss(chosen, rejected, ref_chosen, ref_rejected, *targets, beta=0.0)


def test_self_play_worked_by_hand() -> None:
    """Rewards 1, 0.5, 0: advantages 1 - 0.25, 0.5 - 0.5, 0 - 0.75."""
    result = self_play_loss(t64([-2.0, -3.0, -4.0]), t64([1.0, 0.5, 0.0]))
    assert_close(result.advantages, t64([0.75, 0.0, -0.75]), rtol=1e-12, atol=1e-15)
    assert_close(result.loss, t64([1.5, 0.0, -3.0]), rtol=1e-12, atol=1e-15)


def test_self_play_advantages_of_each_group_sum_to_0() -> None:
    rewards = torch.stack(logps(5)).sigmoid()
    advantages = self_play_loss(torch.zeros_like(rewards), rewards).advantages
    assert_close(advantages.sum(-1), torch.zeros(5).double(), rtol=0, atol=1e-14)


def test_self_play_among_equals_has_no_gradient() -> None:
    policy = t64([-2.0, -3.0, -4.0], requires_grad=True)
    loss = self_play_loss(policy, t64([0.5, 0.5, 0.5])).loss.sum()
    assert torch.autograd.grad(loss, policy)[0].tolist() == [0, 0, 0]


def test_self_play_needs_two_samples() -> None:
    with pytest.raises(ShapeError, match=r"policy_logps is \[3, 1\], expected \[..., N\] with 2"):
        self_play_loss(torch.zeros(3, 1), torch.zeros(3, 1))
