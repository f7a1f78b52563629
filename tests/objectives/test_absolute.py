"""ASFT: worked cases, its relation to fine-tuning and ORPO, refused input."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import PreferenceLoss, masked_mean, orpo_loss, parse_objective
from mmalign.objectives.absolute import asft_loss
from mmalign.testing.golden import t64

CHOSEN_MASK = t64([[0, 1, 1, 1], [1, 1, 0, 0]])
REJECTED_MASK = t64([[0, 1, 0, 0], [1, 1, 1, 1]])


def logps(seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    values = -2 * torch.rand(2, 4, generator=source, dtype=torch.float64)
    return values.requires_grad_()


def asft(chosen: Tensor, rejected: Tensor, **settings: Any) -> PreferenceLoss:
    return asft_loss(
        chosen,
        rejected,
        CHOSEN_MASK,
        REJECTED_MASK,
        CHOSEN_MASK.sum() / 2,
        **({"align_weight": 0.4} | settings),
    )


def gradients(chosen: Tensor, rejected: Tensor, **settings: Any) -> tuple[Tensor, ...]:
    return torch.autograd.grad(asft(chosen, rejected, **settings).loss.sum(), (chosen, rejected))


def test_worked_by_hand() -> None:
    """p 1/2 and 1/4: nll log 2, align log 2 + log(4/3); 1 * log 2 + 0.5 * log(8/3)."""
    one = t64([[1]])
    half, quarter = t64([[math.log(1 / 2)]]), t64([[math.log(1 / 4)]])
    result = asft_loss(half, quarter, one, one, t64(1.0), align_weight=0.5)
    assert result.loss.item() == pytest.approx(math.log(2) + 0.5 * math.log(8 / 3), rel=1e-12)
    assert result.chosen_rewards.item() == pytest.approx(0.0, abs=1e-12)
    assert result.rejected_rewards.item() == pytest.approx(math.log(1 / 3), rel=1e-12)


def test_a_temperature_scales_the_odds() -> None:
    """Odds 1/3 at b = 2: -log sigmoid(2 log 3) = log(1 + 1/9); odds 1 give log 2 at any b."""
    one = t64([[1]])
    half, quarter = t64([[math.log(1 / 2)]]), t64([[math.log(1 / 4)]])
    result = asft_loss(
        half, quarter, one, one, t64(1.0), align_weight=1.0, beta=2.0, sft_weight=0.0
    )
    assert result.loss.item() == pytest.approx(math.log(2) + math.log(10 / 9), rel=1e-12)


def test_without_the_absolute_terms_it_is_fine_tuning_per_response() -> None:
    chosen = logps(0)
    result = asft(chosen, logps(1), align_weight=0.0)
    assert_close(result.loss, -masked_mean(chosen, CHOSEN_MASK), rtol=1e-12, atol=0)


def test_the_original_is_a_likelihood_and_an_unlikelihood() -> None:
    chosen, rejected = logps(0), logps(1)
    p = masked_mean(rejected, REJECTED_MASK).exp()
    expected = -1.4 * masked_mean(chosen, CHOSEN_MASK) - 0.4 * torch.log(1 - p)
    assert_close(asft(chosen, rejected).loss, expected, rtol=1e-9, atol=0)


def test_the_sigmoid_of_the_log_odds_is_the_probability() -> None:
    chosen = logps(0)
    found = torch.sigmoid(asft(chosen, logps(1)).chosen_rewards)
    assert_close(found, masked_mean(chosen, CHOSEN_MASK).exp().detach(), rtol=1e-12, atol=0)


def test_orpo_is_smaller_by_the_stated_gap() -> None:
    chosen, rejected = logps(0)[:1], logps(1)[:1]
    masks = CHOSEN_MASK[:1], REJECTED_MASK[:1]
    ours = asft_loss(chosen, rejected, *masks, masks[0].sum(), align_weight=0.4).loss
    orpo = orpo_loss(chosen, rejected, *masks, masks[0].sum(), odds_weight=0.4).loss
    p, q = masked_mean(chosen, masks[0]).exp(), masked_mean(rejected, masks[1]).exp()
    assert_close(orpo, ours + 0.4 * torch.log(p * (1 - q) + q * (1 - p)), rtol=1e-9, atol=0)
    assert orpo.item() < ours.item()


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.0])
def test_chosen_is_pushed_up_and_rejected_down(beta: float) -> None:
    chosen, rejected = gradients(logps(0), logps(1), beta=beta)
    assert (chosen[CHOSEN_MASK > 0] < 0).all()
    assert (rejected[REJECTED_MASK > 0] > 0).all()


def test_the_original_pushes_the_chosen_response_with_a_constant_force() -> None:
    chosen, _ = gradients(logps(0), logps(1))
    expected = -1.4 * CHOSEN_MASK / CHOSEN_MASK.sum(-1, keepdim=True)
    assert_close(chosen, expected, rtol=1e-9, atol=0)


def test_the_sides_are_not_coupled() -> None:
    chosen, rejected = gradients(logps(0), logps(1))
    assert_close(gradients(logps(0), logps(2))[0], chosen, rtol=0, atol=0)
    assert_close(gradients(logps(2), logps(1))[1], rejected, rtol=0, atol=0)


def test_an_unlikely_rejected_response_is_hardly_pushed() -> None:
    _, rejected = gradients(logps(0), (logps(1).detach() - 40).requires_grad_())
    assert rejected.abs().max() < 1e-16


def test_a_certain_response_gives_finite_numbers() -> None:
    certain = torch.zeros(1, 2, requires_grad=True)
    ones = torch.ones(1, 2)
    loss = asft_loss(certain, certain, ones, ones, torch.tensor(2.0), align_weight=1.0).loss
    (gradient,) = torch.autograd.grad(loss.sum(), certain)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()


def test_the_batchs_nll_is_the_mean_over_its_tokens() -> None:
    chosen = logps(0)
    result = asft(chosen, logps(1), align_weight=0.0, sft_form="token_mean")
    assert_close(result.loss.mean(), -chosen[CHOSEN_MASK > 0].mean(), rtol=1e-12, atol=0)


def test_the_recipes_default_is_the_one_stage_original() -> None:
    chosen = parse_objective({"name": "asft"})
    assert chosen.config.model_dump() == {
        "align_weight": 1.0,
        "beta": 1.0,
        "sft_weight": 1.0,
        "sft_form": "average",
    }
    assert "ref_logps" not in chosen.objective.needs


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"beta is 0\.0, expected a positive finite number"):
        asft(logps(0), logps(1), beta=0.0)
    with pytest.raises(ShapeError, match=r"rejected_odds \[1\]"):
        asft_loss(
            logps(0), logps(1)[:1], CHOSEN_MASK, REJECTED_MASK[:1], t64(2.0), align_weight=1.0
        )
