"""What a model is bad at: perplexity, the share that is kept, pairs of steps."""

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.selection.deficiency import perplexity, select_deficient, step_preference
from mmalign.testing.golden import t64

TEXTS = ["get weather", "book flight", "call taxi"]


def test_perplexity_worked_by_hand() -> None:
    """Tokens of probability 1/2 and 1/8 are as surprising as two of 1/4."""
    logps = t64([[math.log(0.5), math.log(0.125), -9.0]])
    assert perplexity(logps, t64([[1, 1, 0]])).item() == pytest.approx(4.0, rel=1e-12)


def test_perplexity_is_at_least_1_and_blind_to_padding() -> None:
    source = torch.Generator().manual_seed(0)
    logps = -torch.rand(5, 4, generator=source, dtype=torch.float64)
    mask = t64([[1, 1, 0, 0]] * 5)
    found = perplexity(logps, mask)
    assert (found >= 1).all()
    assert_close(perplexity(logps[:, :2], mask[:, :2]), found, rtol=0, atol=0)
    spoilt = logps.masked_fill(mask == 0, math.nan)
    assert_close(perplexity(spoilt, mask), found, rtol=0, atol=0)


def test_perplexity_carries_no_gradient_and_is_nan_without_tokens() -> None:
    found = perplexity(t64([[-1.0]], requires_grad=True), t64([[0]]))
    assert not found.requires_grad
    assert found.isnan().all()


def test_selection_worked_by_hand() -> None:
    """Of 5 with a tool and of 4 without, half rounded down: 2 and 2, the hardest first."""
    perplexities = [2.0, 5.0, 3.0, 9.0, 4.0, 1.5, 7.0, 1.1, 6.0]
    found = select_deficient(perplexities, [1, 1, 1, 1, 1, 0, 0, 0, 0], ratio=0.5)
    assert found == ([3, 1], [6, 8])


def test_the_kept_are_at_least_as_surprising_as_the_rest_of_their_class() -> None:
    perplexities = [2.0, 5.0, 3.0, 9.0, 4.0]
    found = select_deficient(perplexities, [True] * 5, ratio=0.6)
    rest = [perplexities[place] for place in range(5) if place not in found.with_tool]
    assert min(perplexities[place] for place in found.with_tool) >= max(rest)
    assert found.without_tool == []


def test_equal_perplexities_keep_the_order_of_the_samples() -> None:
    assert select_deficient([3.0] * 4, [0, 0, 0, 0], ratio=0.5).without_tool == [0, 1]


def test_a_share_of_less_than_one_sample_keeps_none() -> None:
    assert select_deficient([3.0, 2.0, 9.0], [1, 1, 1], ratio=0.3) == ([], [])


def test_best_and_worst_step_become_a_pair() -> None:
    found = step_preference([0.2, 0.9, -0.1], TEXTS)
    assert (found.status, found.pair) == ("ok", (1, 2))


def test_the_first_of_equal_values_is_taken_for_both_sides() -> None:
    assert step_preference([0.9, 0.1, 0.9, 0.1], [*TEXTS, "open map"]).pair == (0, 1)


@pytest.mark.parametrize(
    ("values", "texts", "status"),
    [
        ([0.5], TEXTS[:1], "too_few_children"),
        ([0.5, 0.45], TEXTS[:2], "gap_too_small"),
        ([0.5, 0.1], ["get the weather", "weather get the"], "too_similar"),
        ([-0.4, -0.9], TEXTS[:2], "chosen_too_poor"),
        ([-0.4, -0.9], ["same words", "same words"], "too_similar"),
        ([-0.4, -0.45], ["same words", "same words"], "gap_too_small"),
    ],
)
def test_reasons_against_a_pair_come_in_order(
    values: list[float], texts: list[str], status: str
) -> None:
    assert step_preference(values, texts) == (status, None)


def test_what_lies_on_a_limit_passes() -> None:
    found = step_preference(
        [-0.25, -0.5], ["a b", "b c"], min_gap=0.25, max_overlap=0.5, min_chosen=-0.25
    )
    assert found.status == "ok"


def test_a_step_is_never_paired_with_itself() -> None:
    found = step_preference([0.5, 0.5], ["", ""], min_gap=0.0, max_overlap=1.0)
    assert found.status == "gap_too_small"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"values": [0.1], "texts": TEXTS}, "one length, found values 1, texts 3"),
        ({"values": [0.1, math.nan], "texts": TEXTS[:2]}, r"values\[1\] is nan"),
        ({"values": [0.1, 0.2], "texts": TEXTS[:2], "min_gap": -1}, "min_gap is -1"),
        ({"values": [0.1, 0.2], "texts": TEXTS[:2], "max_overlap": 2}, "max_overlap 2"),
    ],
)
def test_refused_steps_say_what_is_expected(call: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        step_preference(**call)


def test_refused_samples_say_what_is_expected() -> None:
    with pytest.raises(ShapeError, match=r"perplexities\[1\] is inf"):
        select_deficient([1.0, math.inf], [1, 0])
    with pytest.raises(ShapeError, match="found perplexities 1, is_tool 2"):
        select_deficient([1.0], [1, 0])
    with pytest.raises(ShapeError, match="ratio is 30, expected a share"):
        select_deficient([1.0], [1], ratio=30)
    with pytest.raises(ShapeError, match=r"mask \[1, 1\]"):
        perplexity(t64([[-1.0, -1.0]]), t64([[1]]))
