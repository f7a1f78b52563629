"""MAPL: three terms, what each leaves alone, refused input."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss
from mmalign.objectives.prompt_pairs import mapl_loss, margin_gain_loss
from mmalign.testing.golden import t64

NAMES = (
    "chosen_log_ratios",
    "rejected_log_ratios",
    "obeyed_log_ratios",
    "violated_log_ratios",
    "instructed_chosen_log_ratios",
    "instructed_rejected_log_ratios",
)


def rows(**changed: Tensor) -> dict[str, Any]:
    source = torch.Generator().manual_seed(0)
    values: dict[str, Any] = {
        name: torch.randn(3, generator=source, dtype=torch.float64).requires_grad_()
        for name in NAMES
    }
    return values | changed


def test_worked_by_hand() -> None:
    """Margins 2, -1 and (4 - 1) - 2 = 1: s(2) + 0.5 * s(-1) + 2 * s(1), s(x) = log(1 + e^-x)."""
    result = mapl_loss(
        *(t64([value]) for value in (3.0, 1.0, 0.0, 1.0, 4.0, 1.0)),
        beta=1.0,
        intra_weight=0.5,
        inter_weight=2.0,
    )
    s = {margin: math.log1p(math.exp(-margin)) for margin in (2, -1, 1)}
    assert result.loss.item() == pytest.approx(s[2] + 0.5 * s[-1] + 2 * s[1], rel=1e-12)
    assert result.metrics["intra_loss"].item() == pytest.approx(s[-1], rel=1e-12)
    assert result.metrics["inter_loss"].item() == pytest.approx(s[1], rel=1e-12)


def test_without_the_two_prompt_terms_it_is_dpo() -> None:
    given = rows()
    zeros = torch.zeros(3, dtype=torch.float64)
    dpo = dpo_loss(given["chosen_log_ratios"], given["rejected_log_ratios"], zeros, zeros, beta=0.1)
    result = mapl_loss(**given, beta=0.1, intra_weight=0.0, inter_weight=0.0)
    assert_close(result.loss, dpo.loss, rtol=0, atol=0)
    assert_close(result.chosen_rewards, dpo.chosen_rewards, rtol=0, atol=0)


def test_each_term_is_log_2_where_policy_equals_reference() -> None:
    zeros = torch.zeros(2, dtype=torch.float64)
    result = mapl_loss(zeros, zeros, zeros, zeros, zeros, zeros, beta=0.1)
    for values in result.metrics.values():
        assert_close(values, torch.full_like(values, math.log(2)), rtol=1e-12, atol=0)
    assert_close(result.loss, torch.full_like(result.loss, 3 * math.log(2)), rtol=1e-12, atol=0)


def test_a_constant_added_to_both_responses_under_one_prompt_changes_nothing() -> None:
    given = rows()
    shifted = {name: given[name] + 5 * name.startswith("instructed") for name in NAMES}
    assert_close(mapl_loss(**shifted, beta=0.1).loss, mapl_loss(**given, beta=0.1).loss)


def test_intra_pulls_one_response_up_under_one_prompt_and_down_under_the_other() -> None:
    given = rows()
    loss = mapl_loss(**given, beta=0.1).loss.sum()
    obeyed, violated = torch.autograd.grad(
        loss, (given["obeyed_log_ratios"], given["violated_log_ratios"])
    )
    assert (obeyed < 0).all()
    assert_close(violated, -obeyed, rtol=0, atol=0)


def test_a_detached_base_margin_gets_the_gradient_of_dpo_alone() -> None:
    def gradient(**settings: Any) -> Tensor:
        given = rows()
        loss = mapl_loss(**given, beta=0.1, **settings).loss.sum()
        found: Tensor = torch.autograd.grad(loss, given["chosen_log_ratios"])[0]
        return found

    alone = gradient(intra_weight=0.0, inter_weight=0.0)
    assert_close(gradient(detach_base_margin=True), alone, rtol=0, atol=0)
    assert (gradient() > alone).all()


def test_margin_gain_is_log_2_where_the_instructions_change_nothing() -> None:
    chosen, rejected = t64([1.0, -2.0]), t64([0.5, 3.0])
    loss = margin_gain_loss(chosen, rejected, chosen, rejected, beta=0.7).loss
    assert_close(loss, torch.full_like(loss, math.log(2)), rtol=1e-12, atol=0)


def test_wrong_settings_and_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"intra_weight is -1\.0 and inter_weight is 1\.0"):
        mapl_loss(**rows(), beta=0.1, intra_weight=-1.0)
    with pytest.raises(ShapeError, match=r"beta is 0\.0"):
        mapl_loss(**rows(), beta=0.0)
    with pytest.raises(ShapeError, match=r"obeyed_log_ratios \[1\]"):
        mapl_loss(**rows(obeyed_log_ratios=t64([1.0]), violated_log_ratios=t64([1.0])), beta=0.1)
    row = t64([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match=r"rejected_log_ratios \[3, 1\]"):
        margin_gain_loss(row, row, row, row.unsqueeze(-1), beta=1.0)
