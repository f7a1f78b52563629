"""Ranking accuracy: worked cases, theorems, refused input."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from mmalign.diagnostics.ranking import (
    competition_ranks,
    exact_list_match,
    flip_difficulty,
    idealised_log_ratios,
    ipo_flip_losses,
    rank_transitions,
    ranked_right,
    ranked_right_with_ties,
    ranking_gap,
    rewarded_right,
)
from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss, ipo_loss
from mmalign.testing.golden import t64


def logps(seed: int = 0, num: int = 500) -> list[Tensor]:
    """Policy chosen and rejected, reference chosen and rejected."""
    source = torch.Generator().manual_seed(seed)
    return list(-8 * torch.rand(4, num, generator=source, dtype=torch.float64))


SHARES = t64([0.6, 0.75, 0.9, 1.0, 0.55] * 100)


def test_ranking_accuracy_counts_equal_log_probabilities() -> None:
    assert ranked_right(t64([-1.0, -2.0, -3.0]), t64([-2.0, -2.0, -1.0])).tolist() == [
        True,
        True,
        False,
    ]


def test_rewards_may_be_right_where_the_ranking_is_wrong() -> None:
    """The chosen one gains 2 on the reference, the rejected one nothing, and stays likelier."""
    pair = [t64([-6.0]), t64([-1.0]), t64([-8.0]), t64([-1.0])]
    assert rewarded_right(*pair, beta=0.1).tolist() == [True]
    assert ranked_right(*pair[:2]).tolist() == [False]
    same = [t64([-1.0])] * 4
    assert rewarded_right(*same, beta=0.1).tolist() == [False]


def test_sums_and_means_agree_where_lengths_do() -> None:
    chosen, rejected, *_ = logps()
    assert torch.equal(ranked_right(chosen, rejected), ranked_right(chosen / 7, rejected / 7))


def test_ties_need_close_probabilities_and_decided_pairs_a_strict_order() -> None:
    """0.500 and 0.505 are tied; 0.50 and 0.52 are not; a decided pair may be close."""
    chosen = t64([0.5, 0.5, 0.505, 0.5]).log()
    rejected = t64([0.505, 0.52, 0.5, 0.5]).log()
    found = ranked_right_with_ties(chosen, rejected, t64([0.5, 0.5, 0.8, 0.8]))
    assert found.tolist() == [True, False, True, False]


def test_the_perfect_policy_worked_by_hand() -> None:
    """-5 + 4 + log(3) / 0.5; raters who all agree have odds of 1000."""
    found = idealised_log_ratios(t64([-5.0, -5.0]), t64([-4.0, -4.0]), t64([0.75, 1.0]), beta=0.5)
    assert found.tolist() == pytest.approx([-1 + 2 * math.log(3), -1 + 2 * math.log(1000)])


def test_undecided_raters_leave_the_reference_as_it_is() -> None:
    _, _, chosen, rejected = logps()
    found = idealised_log_ratios(chosen, rejected, torch.full_like(chosen, 0.5), beta=0.1)
    assert torch.equal(found, chosen - rejected)


def test_beta_spans_perfect_ranking_to_that_of_the_reference() -> None:
    small = ranking_gap(*[*logps(), SHARES], betas=[1e-4])
    assert small.idealised_median == 1
    large = ranking_gap(*[*logps(), SHARES], betas=[1e9])
    _, _, chosen, rejected = logps()
    assert large.idealised_median == ranked_right(chosen, rejected).double().mean().item()


def test_the_gap_is_told_over_the_grid_of_beta() -> None:
    grid = ranking_gap(*[*logps(), SHARES])
    assert 0.5 < grid.idealised_lowest <= grid.idealised_median <= grid.idealised_highest <= 1
    assert grid.gap == grid.idealised_median - grid.accuracy


def test_a_pair_is_ranked_right_exactly_where_its_loss_is_below_the_threshold() -> None:
    pairs = logps()
    threshold = flip_difficulty(*pairs[2:], beta=0.3).loss_thresholds
    below = dpo_loss(*pairs, beta=0.3).loss <= threshold
    assert torch.equal(below, ranked_right(*pairs[:2]))
    assert 0 < below.double().mean() < 1


def test_the_difficulty_worked_by_hand() -> None:
    """c = -1 + 4 = 3; at beta 0.5 the loss must fall to log(1 + e^-1.5)."""
    found = flip_difficulty(t64([-4.0]), t64([-1.0]), beta=0.5)
    assert found.ref_log_ratios.item() == 3
    assert found.margins.item() == 1.5
    assert found.loss_thresholds.item() == pytest.approx(math.log1p(math.exp(-1.5)))


def test_a_small_loss_keeps_the_pairs_that_the_reference_had_right() -> None:
    pairs = logps()
    kept = ranked_right(*pairs[2:]) & (dpo_loss(*pairs, beta=0.3).loss <= 0.6)
    assert kept.any()
    assert ranked_right(*pairs[:2])[kept].all()


def test_ipo_below_its_threshold_ranks_right() -> None:
    pairs = logps()
    thresholds = ipo_flip_losses(*pairs[2:], tau=0.2)
    below = ipo_loss(*pairs, beta=0.2).loss <= thresholds
    assert below.any()
    assert ranked_right(*pairs[:2])[below].all()


def test_ipo_without_loss_may_leave_a_hard_pair_wrong() -> None:
    """tau 0.5 seeks the margin 1; the reference is 3 off, so at loss 0 the pair is 2 off."""
    pair = [t64([-3.0]), t64([-1.0]), t64([-4.0]), t64([-1.0])]
    assert ipo_loss(*pair, beta=0.5).loss.item() == 0
    assert ranked_right(*pair[:2]).tolist() == [False]
    assert ipo_flip_losses(*pair[2:], tau=0.5).tolist() == [-1.0]


def test_a_tie_of_the_model_never_matches_peoples_ranks() -> None:
    scores = t64([[-1.0, -2.0, -3.0], [-1.0, -1.0, -3.0]])
    assert competition_ranks(scores).tolist() == [[1, 2, 3], [1, 1, 3]]
    ranks = torch.tensor([[1, 2, 3], [1, 2, 3]])
    assert exact_list_match(scores, ranks).tolist() == [True, False]


def test_exact_matches_are_rarer_than_right_pairs() -> None:
    source = torch.Generator().manual_seed(1)
    scores = torch.rand(200, 3, generator=source, dtype=torch.float64)
    ranks = torch.tensor([[1, 2, 3]]).expand(200, -1)
    exact = exact_list_match(scores, ranks).double().mean()
    pairs = [ranked_right(scores[:, i], scores[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert 0 < exact <= torch.stack(pairs).double().mean()


def test_every_pair_has_one_transition() -> None:
    pairs = logps()
    counts = Counter(rank_transitions(*pairs))
    assert sum(counts.values()) == 500
    before, after = ranked_right(*pairs[2:]), ranked_right(*pairs[:2])
    assert counts["correct->incorrect"] == int((before & ~after).sum())
    assert counts["incorrect->correct"] == int((~before & after).sum())


def test_wrong_input_is_refused() -> None:
    one, two = t64([-1.0]), t64([-1.0, -2.0])
    with pytest.raises(ShapeError, match=r"rejected_logps \[2\]"):
        ranked_right(one, two)
    with pytest.raises(ShapeError, match=r"chosen_logps\[0\] is nan"):
        ranked_right(t64([math.nan]), one)
    with pytest.raises(ShapeError, match=r"rater_shares\[1\] is 0.4.*swap the sides"):
        idealised_log_ratios(two, two, t64([0.5, 0.4]), beta=0.1)
    with pytest.raises(ShapeError, match=r"rater_shares\[0\] is 1.5"):
        ranked_right_with_ties(one, one, t64([1.5]))
    with pytest.raises(ShapeError, match="beta is 0"):
        flip_difficulty(one, one, beta=0)
    with pytest.raises(ShapeError, match="tau is -1"):
        ipo_flip_losses(one, one, tau=-1)
    with pytest.raises(ShapeError, match=r"human_ranks\[0\] is \[1, 1\]"):
        exact_list_match(two[None], torch.tensor([[1, 1]]))
    with pytest.raises(ShapeError, match=r"after \[2\]"):
        rank_transitions(two, two, one, one)
