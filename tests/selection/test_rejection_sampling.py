"""Statistical rejection sampling: what is kept, and how the kept are paired."""

import itertools
import math
import random
from collections.abc import Iterator

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import PairTerms, parse_objective
from mmalign.selection.rejection_sampling import (
    acceptance_probs,
    baseline_reward,
    first_round_pairs,
    rejection_sample,
    tournament_pairs,
)
from mmalign.testing.golden import t64

REWARDS = [0.3, -1.2, 0.9, 2.0, 0.1, 1.1]


def draws(seed: int) -> Iterator[float]:
    rng = random.Random(seed)
    return iter(rng.random, None)


def wins(num_players: int, seed: int = 0) -> list[list[float]]:
    rng = random.Random(seed)
    return [[rng.random() for _ in range(num_players)] for _ in range(num_players)]


def test_sampler_worked_by_hand() -> None:
    """Rewards 0, log 2, log 4: kept with 1/4, 1/2, 1. Draws 0.3 no, 0.4 yes, 0.9 yes."""
    rewards = [0.0, math.log(2), math.log(4)]
    assert acceptance_probs(rewards, beta=1.0) == pytest.approx([0.25, 0.5, 1.0], rel=1e-12)
    found = rejection_sample(rewards, [0.3, 0.4, 0.9, 0.9], num_accepted=2, beta=1.0)
    assert found == ([1, 2], 3)


def test_the_best_reward_is_that_of_the_candidates_left() -> None:
    rewards = [0.0, math.log(2), math.log(4)]
    found = rejection_sample(rewards, [0.3, 0.4, 0.9, 0.9], num_accepted=3, beta=1.0)
    assert found == ([1, 2, 0], 4)


def test_sampling_ends_within_a_pass_and_draws_no_further() -> None:
    found = rejection_sample([1.0, 1.0, 1.0, 1.0], draws(0), num_accepted=2, beta=0.5)
    assert found == ([0, 1], 2)


def test_a_large_beta_keeps_the_first_candidates() -> None:
    assert rejection_sample(REWARDS, draws(1), num_accepted=3, beta=1e12).indices == [0, 1, 2]


def test_a_small_beta_keeps_the_best_in_order() -> None:
    assert rejection_sample(REWARDS, draws(1), num_accepted=3, beta=1e-6).indices == [3, 5, 2]


def test_a_seed_repeats_the_choice_and_no_candidate_comes_twice() -> None:
    one, other = (rejection_sample(REWARDS, draws(7), num_accepted=5, beta=1.0) for _ in range(2))
    assert one == other
    assert len(set(one.indices)) == 5


def test_fewer_candidates_than_asked_for_are_all_kept() -> None:
    assert sorted(rejection_sample(REWARDS, draws(3), num_accepted=8).indices) == list(range(6))


def test_the_kept_follow_the_policy_that_is_sought() -> None:
    """Chi-square of 4000 kept samples against ref * exp(r / beta) / Z, 2 degrees of freedom."""
    ref, reward, beta, num_kept = [0.5, 0.3, 0.2], [0.0, 0.4, 1.0], 0.7, 4000
    rng = random.Random(0)
    kept = [0, 0, 0]
    for _ in range(num_kept):
        drawn = rng.choices(range(3), weights=ref, k=40)
        rewards = [reward[kind] for kind in drawn]
        [place] = rejection_sample(
            rewards, iter(rng.random, None), num_accepted=1, beta=beta
        ).indices
        kept[drawn[place]] += 1
    weights = [p * math.exp(r / beta) for p, r in zip(ref, reward, strict=True)]
    sought = [num_kept * weight / sum(weights) for weight in weights]
    chi_square = sum((k - s) ** 2 / s for k, s in zip(kept, sought, strict=True))
    assert chi_square < 13.8  # exceeded once in a thousand


def test_reward_is_the_log_odds_against_the_baseline() -> None:
    assert baseline_reward(0.5) == 0.0
    assert baseline_reward(0.8) == pytest.approx(math.log(4), rel=1e-12)
    assert baseline_reward(0.2) == pytest.approx(-baseline_reward(0.8), rel=1e-12)


def test_reward_of_a_sure_ranker_stays_finite() -> None:
    assert baseline_reward(1.0) == baseline_reward(1 - 1e-6) == pytest.approx(13.8155, rel=1e-5)
    assert baseline_reward(0.0) == pytest.approx(-baseline_reward(1.0), rel=1e-9)


def test_first_round_worked_by_hand() -> None:
    """0 beats 1 with 0.6; at 0.5 the second wins, so 3 beats 2; 4 stays without a pair."""
    probs = [[0.5] * 5 for _ in range(5)]
    probs[0][1] = 0.6
    assert first_round_pairs(probs) == [(0, 1), (3, 2)]


def test_a_tournament_of_eight_has_seven_games_and_begins_with_the_first_round() -> None:
    games = tournament_pairs(wins(8))
    assert len(games) == 7
    assert games[:4] == first_round_pairs(wins(8))
    assert len({game.rejected for game in games}) == 7


def test_the_last_of_an_odd_number_moves_on_without_playing() -> None:
    always_first = [[1.0] * 5 for _ in range(5)]
    assert tournament_pairs(always_first) == [(0, 1), (2, 3), (0, 2), (0, 4)]


def test_hinge_without_reference_is_the_ranking_term_of_slic_scaled() -> None:
    source = torch.Generator().manual_seed(0)
    logps = [-20 * torch.rand(6, 1, generator=source, dtype=torch.float64) for _ in range(2)]
    terms = PairTerms(*logps, *(torch.ones(6, 1) for _ in logps))
    gamma = 0.05
    hinge = parse_objective({"name": "hinge_reference_free", "beta": gamma})
    slic = parse_objective({"name": "slic", "delta": 1 / gamma, "sft_weight": 0.0})
    assert_close(hinge.loss(terms).loss, gamma * slic.loss(terms).loss, rtol=1e-12, atol=1e-12)
    assert hinge.objective.needs == {"policy_logps"}


def test_hinge_without_reference_worked_by_hand() -> None:
    """1 - 0.05 * (-4 + 10) = 0.7."""
    one = torch.ones(1, 1)
    terms = PairTerms(t64([[-4.0]]), t64([[-10.0]]), one, one)
    found = parse_objective({"name": "hinge_reference_free", "beta": 0.05}).loss(terms).loss
    assert found.item() == pytest.approx(0.7, rel=1e-12)


def test_refused_inputs_say_what_is_expected() -> None:
    with pytest.raises(ShapeError, match=r"rewards\[1\] is nan"):
        acceptance_probs([0.0, math.nan], beta=1.0)
    with pytest.raises(ShapeError, match=r"beta is 0\.0, expected a positive"):
        rejection_sample([0.0], draws(0), beta=0.0)
    with pytest.raises(ShapeError, match=r"uniforms\[1\] is nan.* ran out"):
        rejection_sample([5.0, 0.0], [0.1], num_accepted=2, beta=0.1)
    with pytest.raises(ShapeError, match=r"uniforms\[0\] is 1.0, expected a number in \[0, 1\)"):
        rejection_sample([0.0], itertools.repeat(1.0))
    with pytest.raises(ShapeError, match=r"prob_beats_baseline is 1\.2"):
        baseline_reward(1.2)
    with pytest.raises(ShapeError, match=r"prob_first_wins\[1\] has 1 entries, expected 2"):
        first_round_pairs([[0.5, 0.5], [0.5]])
    with pytest.raises(ShapeError, match=r"prob_first_wins\[0\] is nan"):
        tournament_pairs([[0.5, math.nan], [0.5, 0.5]])
