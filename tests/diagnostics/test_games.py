"""Preference games: values, gaps, and where the exact steps lead."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.diagnostics.games import (
    duality_gap,
    equivalent_learning_rate,
    exploitability,
    extragradient_step,
    game_value,
    has_preference_cycle,
    hedge_average,
    mirror_descent_step,
    population_ipo_loss,
)
from mmalign.diagnostics.tabular import tilted_policy
from mmalign.errors import ShapeError
from mmalign.testing.golden import t64

CIRCLE = t64([[0.5, 0.9, 0.2], [0.1, 0.5, 0.8], [0.8, 0.2, 0.5]])


def logits(seed: int, num: int = 3) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(num, generator=source, dtype=torch.float64)


def nash_policy(ref_logprobs: Tensor, beta: float) -> Tensor:
    """By extragradient steps until nothing moves."""
    theta = ref_logprobs
    for _ in range(2000):
        theta = extragradient_step(theta, ref_logprobs, CIRCLE, beta=beta, eta=0.5).full
    return theta.log_softmax(-1)


def test_a_value_worked_by_hand() -> None:
    """(3/4, 1/4) wins 3/4 * 0.7 + 1/4 * 0.3 = 0.6 against the fair coin, which is the reference.

    Its KL is 3/4 log 3/2 + 1/4 log 1/2, weighted 0.2; the opponent's is 0.
    """
    game = t64([[0.5, 0.9], [0.1, 0.5]])
    half, more = t64([0.5, 0.5]).log(), t64([0.75, 0.25]).log()
    kl = 0.75 * math.log(3 / 2) + 0.25 * math.log(1 / 2)
    there, back = (
        game_value(*players, half, game, beta=0.2).item()
        for players in ((more, half), (half, more))
    )
    assert there == pytest.approx(0.6 - 0.2 * kl, rel=1e-12)
    assert back == pytest.approx(0.4 + 0.2 * kl, rel=1e-12)


def test_a_policy_against_itself_is_worth_half() -> None:
    policy, ref = logits(0).log_softmax(-1), logits(1).log_softmax(-1)
    assert game_value(policy, policy, ref, CIRCLE, beta=0.3).item() == pytest.approx(0.5)


def test_the_gap_is_0_at_the_nash_policy_and_larger_elsewhere() -> None:
    ref = logits(1).log_softmax(-1)
    nash = nash_policy(ref, beta=0.2)
    assert duality_gap(nash, ref, CIRCLE, beta=0.2).item() == pytest.approx(0.0, abs=1e-12)
    reply = tilted_policy(ref, CIRCLE @ nash.exp(), beta=0.2)
    assert_close(reply, nash, rtol=1e-9, atol=1e-9)
    for seed in range(2, 6):
        assert duality_gap(logits(seed).log_softmax(-1), ref, CIRCLE, beta=0.2).item() > 1e-4


def test_among_ties_the_nash_policy_is_the_reference() -> None:
    ref = logits(1).log_softmax(-1)
    ties = torch.full((3, 3), 0.5, dtype=torch.float64)
    assert duality_gap(ref, ref, ties, beta=0.2).item() == pytest.approx(0.0, abs=1e-15)
    step = extragradient_step(ref, ref, ties, beta=0.2, eta=0.5)
    assert_close(step.full.log_softmax(-1), ref, rtol=1e-12, atol=1e-14)


def test_a_heavy_kl_holds_the_policy_at_the_reference() -> None:
    ref = logits(1).log_softmax(-1)
    step = extragradient_step(logits(0), ref, CIRCLE, beta=1e4, eta=0.9999e-4)
    assert_close(step.full.log_softmax(-1), ref, rtol=0, atol=1e-3)


@pytest.mark.parametrize("which", ["half", "full"])
def test_a_gradient_step_on_the_population_loss_is_an_extragradient_step(which: str) -> None:
    theta, ref, beta, eta = logits(0).requires_grad_(), logits(1), 0.2, 0.5
    step = extragradient_step(theta, ref, CIRCLE, beta=beta, eta=eta)
    opponent = (theta if which == "half" else step.half).softmax(-1)
    loss = population_ipo_loss(theta, ref, CIRCLE @ opponent, beta=beta)
    rate = equivalent_learning_rate(eta=eta, beta=beta, num_answers=3)
    moved = theta - rate * torch.autograd.grad(loss, theta)[0]
    expected = getattr(step, which).log_softmax(-1)
    assert_close(moved.log_softmax(-1), expected, rtol=1e-12, atol=1e-13)


def test_population_loss_worked_by_hand() -> None:
    """d = log 3/4 - log 1/2 and log 1/4 - log 1/2, less 0.6/0.5 and 0: two pairs of four differ."""
    theta, ref = t64([0.75, 0.25]).log(), t64([0.5, 0.5]).log()
    loss = population_ipo_loss(theta, ref, t64([0.6, 0.0]), beta=0.5)
    assert loss.item() == pytest.approx(((t64(3.0).log() - 1.2) ** 2 / 2).item(), rel=1e-12)


def test_a_mirror_descent_step_fits_inpos_margin_exactly() -> None:
    policy, ref, eta, tau = logits(0).log_softmax(-1), logits(1).log_softmax(-1), 0.5, 0.1
    after = mirror_descent_step(policy, ref, CIRCLE, eta=eta, tau=tau)
    h = after - (tau / eta) * ref - (1 - tau / eta) * policy
    wins = CIRCLE @ policy.exp()
    assert_close(h - h[0], (wins - wins[0]) / eta, rtol=1e-9, atol=1e-12)


def test_mirror_descent_with_growing_eta_reaches_the_nash_policy() -> None:
    ref, tau = logits(1).log_softmax(-1), 0.5
    policy = ref
    for t in range(3000):
        policy = mirror_descent_step(policy, ref, CIRCLE, eta=tau * (t + 2) / 2, tau=tau)
    assert_close(policy, nash_policy(ref, beta=tau), rtol=0, atol=2e-3)


def test_the_average_of_hedge_is_the_minimax_winner() -> None:
    """Skew entries 0.4, -0.3 and 0.3 of rock, paper, scissors give 0.3, 0.3, 0.4."""
    average = hedge_average(CIRCLE, num_steps=4000, learning_rate=0.05)
    assert_close(average, t64([0.3, 0.3, 0.4]), rtol=0, atol=2e-3)
    assert 0 <= exploitability(average, CIRCLE).item() < 1e-3


def test_a_condorcet_winner_gets_all() -> None:
    game = t64([[0.5, 0.7, 0.8], [0.3, 0.5, 0.1], [0.2, 0.9, 0.5]])
    assert hedge_average(game, num_steps=4000, learning_rate=0.5)[0].item() > 0.99


def test_hedge_starts_from_the_uniform_policy() -> None:
    assert_close(hedge_average(CIRCLE, num_steps=1, learning_rate=1.0), t64([1 / 3] * 3))


def test_a_pure_policy_is_exploited_by_its_best_reply() -> None:
    assert exploitability(t64([1.0, 0.0, 0.0]), CIRCLE).item() == pytest.approx(0.3, rel=1e-12)


def test_circles_are_told_from_orders() -> None:
    assert has_preference_cycle(CIRCLE)
    assert not has_preference_cycle(t64([[0.5, 0.6, 0.9], [0.4, 0.5, 0.7], [0.1, 0.3, 0.5]]))
    assert not has_preference_cycle(torch.full((3, 3), 0.5))


def test_a_circle_of_four_is_found() -> None:
    game = torch.full((4, 4), 0.5)
    for i in range(4):
        j = (i + 1) % 4
        game[i, j], game[j, i] = 0.8, 0.2
    assert has_preference_cycle(game)


def test_tables_that_are_no_games_are_refused() -> None:
    policy = logits(0).log_softmax(-1)
    with pytest.raises(ShapeError, match="entry j, i must be 1 minus entry i, j"):
        duality_gap(policy, policy, torch.full((3, 3), 0.6).double(), beta=0.1)
    with pytest.raises(ShapeError, match=r"preferences\[0, 1\] is nan"):
        has_preference_cycle(t64([[0.5, float("nan")], [0.5, 0.5]]))
    with pytest.raises(ShapeError, match=r"found preferences \[3, 3\], {'probs': \[2\]}"):
        exploitability(t64([0.5, 0.5]), CIRCLE)
    with pytest.raises(ShapeError, match=r"found preferences \[1, 3\]"):
        hedge_average(CIRCLE[:1], num_steps=2, learning_rate=0.1)


def test_steps_that_would_diverge_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"eta \* beta is 1.0, expected less than 1"):
        extragradient_step(logits(0), logits(1), CIRCLE, beta=2.0, eta=0.5)
    with pytest.raises(ShapeError, match=r"beta is 0\.0"):
        population_ipo_loss(logits(0), logits(1), logits(2), beta=0.0)
    with pytest.raises(ShapeError, match=r"opponent_win_rates \[2\]"):
        population_ipo_loss(logits(0), logits(1), logits(2)[:2], beta=0.1)
    with pytest.raises(ShapeError, match=r"tau is 0\.6, expected 0 <= tau <= eta"):
        mirror_descent_step(logits(0), logits(1), CIRCLE, eta=0.5, tau=0.6)
