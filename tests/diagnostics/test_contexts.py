"""Preferences under contexts: worked cases, identities, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.diagnostics.contexts import context_accuracy, context_errors, marginal_preferences
from mmalign.errors import ShapeError
from mmalign.testing.golden import t64


def random_probs(seed: int) -> Tensor:
    return random_margins(seed).softmax(-1)


def random_margins(seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(50, 4, generator=source, dtype=torch.float64)


def test_accuracy_worked_by_hand() -> None:
    """Rows right, wrong, tied and three right: 4.5 / 6; only the last record is right in both."""
    found = context_accuracy(t64([[1.0, -1.0], [0.0, 2.0], [0.5, 0.1]]))
    assert found.rows == pytest.approx(4.5 / 6)
    assert found.records == pytest.approx(1 / 3)


def test_a_model_blind_to_the_context_has_half_the_rows_and_no_record() -> None:
    gaps = random_margins(0)[:, 0]
    found = context_accuracy(torch.stack([gaps, -gaps], -1))
    assert found == (0.5, 0.0)


def test_vote_and_utility_may_disagree() -> None:
    """0.6 sigmoid(1) + 0.4 sigmoid(-1.6) > 1/2 > sigmoid(0.6 - 0.64)."""
    found = marginal_preferences(t64([[0.6, 0.4]]), t64([[1.0, -1.6]]))
    assert found.vote.item() == pytest.approx(0.6 / (1 + math.exp(-1)) + 0.4 / (1 + math.exp(1.6)))
    assert found.vote.item() > 0.5 > found.utility.item()
    assert found.top_context.item() == pytest.approx(1 / (1 + math.exp(-1)))


def test_under_one_certain_context_all_rules_agree() -> None:
    found = marginal_preferences(t64([[0.0, 1.0]]), t64([[3.0, -0.7]]))
    assert_close(found.vote, found.utility)
    assert_close(found.vote, found.top_context)


def test_swapping_the_answers_swaps_the_probability() -> None:
    probs, margins = random_probs(1), random_margins(2)
    there, back = marginal_preferences(probs, margins), marginal_preferences(probs, -margins)
    for one, other in zip(there, back, strict=True):
        assert_close(one, 1 - other)


def test_of_equally_likely_contexts_the_first_counts() -> None:
    found = marginal_preferences(t64([[0.4, 0.4, 0.2]]), t64([[0.0, 5.0, 5.0]]))
    assert found.top_context.item() == 0.5


def test_errors_worked_by_hand() -> None:
    """Votes 1/2 and 3/4 * 3/4 + 1/4 * 1/2 = 11/16; contexts 1/4 apart; judge 3/4 * (3/4 - 1/2)."""
    found = context_errors(
        t64([[0.5, 0.5]]), t64([[0.0, 0.0]]), t64([[0.75, 0.25]]), t64([[math.log(3), 0.0]])
    )
    assert found.error.item() == pytest.approx(3 / 16)
    assert found.context.item() == pytest.approx(1 / 4)
    assert found.judge.item() == pytest.approx(3 / 16)


def test_the_error_is_at_most_that_of_contexts_plus_that_of_the_judge() -> None:
    found = context_errors(random_probs(1), random_margins(2), random_probs(3), random_margins(4))
    assert (found.error <= found.context + found.judge + 1e-15).all()
    assert found.error.max() > 0.1


def test_each_part_vanishes_with_its_cause() -> None:
    probs, margins = random_probs(1), random_margins(2)
    same_judge = context_errors(probs, margins, random_probs(3), margins)
    assert same_judge.judge.max() == 0
    assert same_judge.context.min() > 0
    same_contexts = context_errors(probs, margins, probs, random_margins(4))
    assert same_contexts.context.max() == 0
    assert same_contexts.judge.min() > 0


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"expected margins \[B, 2\], found \[1, 3\]"):
        context_accuracy(t64([[1.0, 2.0, 3.0]]))
    with pytest.raises(ShapeError, match=r"margins\[0, 1\] is nan"):
        context_accuracy(t64([[1.0, math.nan]]))
    with pytest.raises(ShapeError, match=r"context_probs\[1\] is \[0.5, 0.6\]"):
        marginal_preferences(t64([[0.5, 0.5], [0.5, 0.6]]), t64([[0.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(ShapeError, match=r"margins \[1, 3\]"):
        marginal_preferences(t64([[0.5, 0.5]]), t64([[0.0, 0.0, 0.0]]))
    with pytest.raises(ShapeError, match=r"expected context_probs \[Q, Z\], found \[2\]"):
        marginal_preferences(t64([0.5, 0.5]), t64([0.0, 0.0]))
