"""Robust DPO: worked cases, unbiasedness, its weights, and the rates that it is given."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives import cdpo_loss, dpo_loss, parse_objective
from mmalign.objectives.robust import (
    flip_rate_from_disagreement,
    flipped_pairs,
    gradient_weights,
    pair_flip_rates,
    robust_dpo_loss,
)
from mmalign.testing.golden import t64

ZEROS = t64([0.0, 0.0, 0.0])
MARGINS = t64([-3.0, 0.5, 6.0])


def loss_of(margins: Tensor, *, flip_rate: float | Tensor = 0.2, **settings: float) -> Tensor:
    """The loss at these margins: beta 1 and all other log-probabilities 0."""
    return robust_dpo_loss(
        margins, ZEROS, ZEROS, ZEROS, beta=1.0, flip_rate=flip_rate, **settings
    ).loss


def weights_of(margins: Tensor, **settings: float) -> Tensor:
    policy = margins.clone().requires_grad_()
    return -torch.autograd.grad(loss_of(policy, **settings).sum(), policy)[0]


def test_worked_by_hand() -> None:
    """eps 1/4, margin log 3: (3/4 * log(4/3) - 1/4 * log 4) / (1/2)."""
    zero = t64([0.0])
    result = robust_dpo_loss(t64([math.log(3)]), zero, zero, zero, beta=1.0, flip_rate=0.25)
    by_hand = 1.5 * math.log(4 / 3) - 0.5 * math.log(4)
    assert result.loss.item() == pytest.approx(by_hand, rel=1e-12)
    assert result.chosen_rewards.item() == pytest.approx(math.log(3))


def test_without_swaps_it_is_dpo() -> None:
    expected = dpo_loss(MARGINS, ZEROS, ZEROS, ZEROS, beta=1.0).loss
    assert_close(loss_of(MARGINS, flip_rate=0.0), expected, rtol=0, atol=0)


@pytest.mark.parametrize("flip_rate", [0.1, 0.3, 0.45])
def test_the_mean_over_swaps_is_the_loss_on_true_labels(flip_rate: float) -> None:
    kept, swapped = (loss_of(m, flip_rate=flip_rate) for m in (MARGINS, -MARGINS))
    mean = (1 - flip_rate) * kept + flip_rate * swapped
    assert_close(mean, loss_of(MARGINS, flip_rate=0.0), rtol=1e-9, atol=1e-12)


def test_many_drawn_swaps_come_near_the_loss_on_true_labels() -> None:
    source = torch.Generator().manual_seed(0)
    draws = torch.rand(100_000, generator=source, dtype=torch.float64).tolist()
    share = sum(flipped_pairs(draws, flip_rate=0.3)) / len(draws)
    kept, swapped = loss_of(MARGINS, flip_rate=0.3), loss_of(-MARGINS, flip_rate=0.3)
    mean = (1 - share) * kept + share * swapped
    assert_close(mean, loss_of(MARGINS, flip_rate=0.0), rtol=0, atol=0.1)


@pytest.mark.parametrize("flip_rate", [0.0, 0.2, 0.49])
def test_the_loss_is_log_2_where_policy_equals_reference(flip_rate: float) -> None:
    expected = torch.full_like(ZEROS, math.log(2))
    assert_close(loss_of(ZEROS, flip_rate=flip_rate), expected, rtol=1e-9, atol=0)


def test_the_weight_is_dpos_plus_a_constant() -> None:
    found = weights_of(MARGINS, flip_rate=0.2)
    assert_close(found, torch.sigmoid(-MARGINS) + 0.2 / 0.6, rtol=1e-9, atol=0)
    result = robust_dpo_loss(MARGINS, ZEROS, ZEROS, ZEROS, beta=1.0, flip_rate=0.2)
    assert_close(result.metrics["gradient_weight"], found, rtol=1e-9, atol=0)


def test_the_weight_grows_with_the_rate() -> None:
    rates = [0.0, 0.1, 0.3, 0.4]
    weights = torch.stack([weights_of(MARGINS, flip_rate=rate) for rate in rates])
    assert (weights.diff(dim=0) > 0).all()


def test_a_solved_pair_has_a_negative_loss_and_still_pulls() -> None:
    assert loss_of(MARGINS, flip_rate=0.2)[2].item() < 0
    assert weights_of(MARGINS, flip_rate=0.2)[2].item() > 0.2 / 0.6


def test_cdpos_weight_turns_negative_beyond_its_margin() -> None:
    policy = MARGINS.clone().requires_grad_()
    result = cdpo_loss(policy, ZEROS, ZEROS, ZEROS, beta=1.0, label_smoothing=0.2)
    found = -torch.autograd.grad(result.loss.sum(), policy)[0]
    assert_close(gradient_weights(MARGINS, label_smoothing=0.2), found, rtol=1e-9, atol=0)
    assert found[2].item() < 0


def test_each_pair_may_have_its_own_rate() -> None:
    rates = t64([0.0, 0.1, 0.4], requires_grad=True)
    expected = [loss_of(MARGINS, flip_rate=rate)[i] for i, rate in enumerate((0.0, 0.1, 0.4))]
    found = loss_of(MARGINS.clone().requires_grad_(), flip_rate=rates)
    assert_close(found, torch.stack(expected), rtol=1e-12, atol=0)
    (unused,) = torch.autograd.grad(found.sum(), rates, materialize_grads=True)
    assert unused.abs().max() == 0


def test_a_cap_bounds_the_weight_and_leaves_smaller_ones() -> None:
    free = weights_of(MARGINS, flip_rate=0.2)
    capped = weights_of(MARGINS, flip_rate=0.2, weight_cap=0.5)
    assert_close(capped, free.clamp(max=0.5), rtol=1e-9, atol=0)
    assert (free > 0.5).any()
    assert (free < 0.5).any()


def test_disagreement_of_two_annotators_gives_the_rate_back() -> None:
    """eps 0.1: 2 * 0.1 * 0.9 = 0.18 of the pairs get two different labels."""
    assert flip_rate_from_disagreement(0.18) == pytest.approx(0.1, rel=1e-12)
    assert flip_rate_from_disagreement(0.0) == 0


def test_agreement_of_raters_gives_each_pair_its_rate() -> None:
    found = pair_flip_rates([1.0, None, 0.75], default=0.1)
    assert found.rates == (0.0, 0.1, 0.25)
    assert found.num_default == 1


def test_a_draw_equal_to_the_rate_does_not_swap() -> None:
    assert flipped_pairs([0.0, 0.1, 0.25, 0.9], flip_rate=0.25) == (True, True, False, False)
    assert flipped_pairs([0.0], flip_rate=0.0) == (False,)


@pytest.mark.parametrize("flip_rate", [-0.1, 0.5, math.nan])
def test_rates_outside_their_range_are_refused(flip_rate: float) -> None:
    with pytest.raises(ShapeError, match=r"flip_rate is .*, expected \[0, 0.5\)"):
        loss_of(MARGINS, flip_rate=flip_rate)
    with pytest.raises(ShapeError, match="flip_rate is"):
        flipped_pairs([0.1], flip_rate=flip_rate)
    with pytest.raises(ShapeError, match="flip_rate is"):
        pair_flip_rates([], default=flip_rate)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"flip_rate \[3, 1\]"):
        loss_of(MARGINS, flip_rate=t64([[0.1], [0.1], [0.1]]))
    with pytest.raises(ShapeError, match=r"weight_cap is 0\.0"):
        loss_of(MARGINS, weight_cap=0.0)
    with pytest.raises(ShapeError, match=r"draws\[1\] is nan"):
        flipped_pairs([0.1, math.nan], flip_rate=0.2)
    with pytest.raises(ShapeError, match="no better than chance"):
        flip_rate_from_disagreement(0.5)
    with pytest.raises(RecordError, match=r"pair 1: agreement is 0.5, expected \(0.5, 1\]"):
        pair_flip_rates([1.0, 0.5], default=0.1)


def test_the_recipes_default_is_the_papers() -> None:
    dump = parse_objective({"name": "robust_dpo"}).config.model_dump()
    assert dump == {"beta": 0.1, "flip_rate": 0.1, "weight_cap": None}
