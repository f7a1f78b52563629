"""The DPO family: golden numbers, worked cases, identities, refused input."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import (
    OBJECTIVES,
    PairTerms,
    cdpo_loss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    masked_sum,
    orpo_loss,
    parse_objective,
    simpo_loss,
    slic_loss,
)
from mmalign.testing.golden import golden_cases, t64

GOLDEN = golden_cases(Path(__file__).parents[1] / "golden" / "dpo.json")
FAMILY = [name for name, objective in OBJECTIVES.items() if objective.family == "dpo"]
WITHOUT_REF = ["simpo", "slic", "orpo", "dpo_reference_free"]


@pytest.mark.parametrize(("case", "expected"), GOLDEN)
def test_dpo_on_stored_sums_matches_golden(case: dict[str, Any], expected: dict[str, Any]) -> None:
    names = [f"{model}_{side}_logps" for model in ("policy", "ref") for side in SIDES]
    result = dpo_loss(*(t64(case[name]) for name in names), beta=case["beta"])
    assert_close(result.loss, t64(expected["per_example"]["dpo"]), rtol=1e-9, atol=1e-12)


SIDES = ("chosen", "rejected")


def terms(seed: int = 0, **changed: Tensor | None) -> PairTerms:
    """Three pairs of random log-probabilities, responses of unequal length."""
    source = torch.Generator().manual_seed(seed)

    def logps() -> Tensor:
        return -3 * torch.rand(3, 5, generator=source, dtype=torch.float64)

    values: dict[str, Any] = {
        "policy_chosen_token_logps": logps().requires_grad_(),
        "policy_rejected_token_logps": logps().requires_grad_(),
        "ref_chosen_token_logps": logps(),
        "ref_rejected_token_logps": logps(),
        "chosen_mask": t64([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]),
        "rejected_mask": t64([[0, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 1, 1, 1]]),
        "chosen_tokens_per_pair": t64(3.0),
    }
    return PairTerms(**(values | changed))


def gradients(name: str, batch: PairTerms, **settings: float) -> tuple[Tensor, ...]:
    result = parse_objective({"name": name, **settings}).loss(batch)
    leaves = (batch.policy_chosen_token_logps, batch.policy_rejected_token_logps)
    return torch.autograd.grad(result.loss.sum(), leaves)


def test_dpo_worked_by_hand() -> None:
    """Rewards 0.1 * (-1 + 2) = 0.1 and 0.1 * (-3 + 3) = 0, so loss = log(1 + e^-0.1)."""
    result = dpo_loss(t64([-1.0]), t64([-3.0]), t64([-2.0]), t64([-3.0]), beta=0.1)
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-0.1)), rel=1e-12)
    assert result.chosen_rewards.item() == pytest.approx(0.1)
    assert result.rejected_rewards.item() == 0


def test_cdpo_worked_by_hand() -> None:
    """Margin 2, eps 0.25: 0.75 * log(1 + e^-2) + 0.25 * log(1 + e^2)."""
    result = cdpo_loss(
        t64([2.0]), t64([0.0]), t64([0.0]), t64([0.0]), beta=1.0, label_smoothing=0.25
    )
    by_hand = 0.75 * math.log1p(math.exp(-2)) + 0.25 * math.log1p(math.exp(2))
    assert result.loss.item() == pytest.approx(by_hand, rel=1e-12)


def test_ipo_worked_by_hand() -> None:
    """h = (3 - 1) - (0 - 1) = 3 and 1 / (2 * 0.25) = 2, so loss = (3 - 2)^2 = 1."""
    result = ipo_loss(t64([3.0]), t64([0.0]), t64([1.0]), t64([1.0]), beta=0.25)
    assert result.loss.item() == pytest.approx(1.0, rel=1e-12)


def test_hinge_worked_by_hand() -> None:
    """Margin 0.5 * (2 - 1) = 0.5, so loss = 1 - 0.5."""
    result = hinge_loss(t64([2.0]), t64([1.0]), t64([0.0]), t64([0.0]), beta=0.5)
    assert result.loss.item() == pytest.approx(0.5, rel=1e-12)


def test_slic_worked_by_hand() -> None:
    """max(0, 1 + 2 - 4) - 0.1 * -2 = 0.2 and max(0, 1 + 2 - 1.5) + 0.2 = 1.7."""
    result = slic_loss(t64([-2.0, -2.0]), t64([-4.0, -1.5]), delta=1.0, sft_weight=0.1)
    assert_close(result.loss, t64([0.2, 1.7]))


def test_simpo_worked_by_hand() -> None:
    """2 * -0.5 - 2 * -1 - 2 * 0.5 = 0, so loss = log 2."""
    result = simpo_loss(t64([-0.5]), t64([-1.0]), beta=2.0, gamma_beta_ratio=0.5)
    assert result.loss.item() == pytest.approx(math.log(2), rel=1e-12)


def test_orpo_worked_by_hand() -> None:
    """p = 1/2 has odds 1, p = 1/4 has odds 1/3; nll = log 2; loss = log 2 - log(3/4)."""
    half, quarter = math.log(1 / 2), math.log(1 / 4)
    ones = t64([[1, 1]])
    result = orpo_loss(
        t64([[half, half]]), t64([[quarter, quarter]]), ones, ones, t64(2.0), odds_weight=1.0
    )
    assert result.loss.item() == pytest.approx(math.log(2) - math.log(3 / 4), rel=1e-12)
    assert result.metrics["nll"].item() == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "value"),
    [
        ("dpo", {"beta": 0.3}, math.log(2)),
        ("cdpo", {"beta": 0.3, "label_smoothing": 0.2}, math.log(2)),
        ("ipo", {"beta": 0.4}, 1 / (4 * 0.4**2)),
        ("ipo_norm", {"beta": 0.4}, 1 / (4 * 0.4**2)),
        ("hinge", {"beta": 0.3}, 1.0),
    ],
)
def test_known_value_where_policy_equals_reference(
    name: str, settings: dict[str, float], value: float
) -> None:
    policy = terms()
    same = terms(
        ref_chosen_token_logps=policy.policy_chosen_token_logps.detach(),
        ref_rejected_token_logps=policy.policy_rejected_token_logps.detach(),
    )
    result = parse_objective({"name": name, **settings}).loss(same)
    assert_close(result.loss, torch.full_like(result.loss, value), rtol=1e-12, atol=0)
    assert result.chosen_rewards.abs().max() == 0


def test_cdpo_without_smoothing_is_dpo() -> None:
    batch = terms()
    plain, smoothed = (parse_objective({"name": n}).loss(batch).loss for n in ("dpo", "cdpo"))
    assert_close(smoothed, plain, rtol=0, atol=0)


def test_dpo_depends_on_the_log_ratios_only() -> None:
    batch = terms()
    assert batch.ref_chosen_token_logps is not None
    shifted = terms(
        policy_chosen_token_logps=batch.policy_chosen_token_logps - 0.7,
        ref_chosen_token_logps=batch.ref_chosen_token_logps - 0.7,
    )
    dpo = parse_objective({"name": "dpo"})
    assert_close(dpo.loss(shifted).loss, dpo.loss(batch).loss, rtol=1e-12, atol=0)


def test_dpo_without_reference_has_a_reference_of_zeros() -> None:
    zeros = torch.zeros(3, 5, dtype=torch.float64)
    batch = terms(ref_chosen_token_logps=zeros, ref_rejected_token_logps=zeros)
    with_zeros, without = (
        parse_objective({"name": name}).loss(batch).loss for name in ("dpo", "dpo_reference_free")
    )
    assert_close(without, with_zeros, rtol=0, atol=0)


@pytest.mark.parametrize("name", FAMILY)
def test_what_stands_outside_the_masks_does_not_matter(name: str) -> None:
    batch = terms()
    outside = batch.chosen_mask == 0
    spoilt = batch.policy_chosen_token_logps.detach().clone()
    spoilt[outside] = math.nan
    changed = terms(policy_chosen_token_logps=spoilt.requires_grad_())
    grads, grads_spoilt = gradients(name, batch), gradients(name, changed)
    assert_close(grads_spoilt[0], grads[0], rtol=0, atol=0)
    assert grads_spoilt[0][outside].abs().max() == 0
    assert grads_spoilt[1][changed.rejected_mask == 0].abs().max() == 0


@pytest.mark.parametrize("name", FAMILY)
def test_padding_changes_nothing(name: str) -> None:
    batch = terms()
    padded = PairTerms(
        **{
            field: torch.nn.functional.pad(value, (0, 4)) if value.ndim == 2 else value
            for field, value in vars(batch).items()
            if value is not None
        }
    )
    chosen = parse_objective({"name": name})
    assert_close(chosen.loss(padded).loss, chosen.loss(batch).loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", WITHOUT_REF)
def test_reference_free_losses_ignore_the_reference(name: str) -> None:
    chosen = parse_objective({"name": name})
    without = terms(ref_chosen_token_logps=None, ref_rejected_token_logps=None)
    assert_close(chosen.loss(without).loss, chosen.loss(terms()).loss, rtol=0, atol=0)
    assert "ref_logps" not in chosen.objective.needs


@pytest.mark.parametrize("name", ["dpo", "hinge", "simpo"])
def test_chosen_is_pushed_up_and_rejected_down(name: str) -> None:
    batch = terms()
    chosen, rejected = gradients(name, batch)
    assert (chosen[batch.chosen_mask > 0] < 0).all()
    assert (rejected[batch.rejected_mask > 0] > 0).all()


def test_dpo_gradient_is_beta_times_a_weight_between_0_and_1() -> None:
    batch = terms()
    result = parse_objective({"name": "dpo", "beta": 0.1}).loss(batch)
    weight = torch.sigmoid(result.rejected_rewards - result.chosen_rewards)
    chosen, _ = gradients("dpo", batch, beta=0.1)
    assert_close(chosen, -0.1 * weight[:, None] * batch.chosen_mask, rtol=1e-12, atol=0)


def test_swapping_the_sides_negates_the_margin() -> None:
    batch = terms()
    swapped = PairTerms(
        **{
            field.replace("chosen", "?")
            .replace("rejected", "chosen")
            .replace("?", "rejected"): value
            for field, value in vars(batch).items()
            if field not in ("chosen_tokens_per_pair", "chosen_token_kl")
        }
    )
    dpo = parse_objective({"name": "dpo"})
    there, back = dpo.loss(batch), dpo.loss(swapped)
    margins = there.chosen_rewards - there.rejected_rewards
    assert_close(back.chosen_rewards - back.rejected_rewards, -margins, rtol=0, atol=0)
    assert_close(back.loss - there.loss, margins)


def test_ipo_gradient_vanishes_at_the_margin_it_seeks() -> None:
    policy = t64([1.25], requires_grad=True)
    result = ipo_loss(policy, t64([0.0]), t64([0.0]), t64([0.0]), beta=0.4)
    assert torch.autograd.grad(result.loss.sum(), policy)[0].item() == 0


@pytest.mark.parametrize("margin", [1.0, 1.5])
def test_hinge_gradient_is_zero_from_a_margin_of_1_on(margin: float) -> None:
    policy = t64([margin], requires_grad=True)
    result = hinge_loss(policy, t64([0.0]), t64([0.0]), t64([0.0]), beta=1.0)
    assert torch.autograd.grad(result.loss.sum(), policy)[0].item() == 0


def test_orpo_odds_gradient_has_the_factor_1_over_1_minus_p() -> None:
    p = 0.8
    logps = t64([[math.log(p)]], requires_grad=True)
    one = t64([[1.0]])
    result = orpo_loss(logps, t64([[math.log(0.5)]]), one, one, t64(1.0), odds_weight=0.0)
    assert torch.autograd.grad(result.loss.sum(), logps)[0].item() == pytest.approx(-1.0)
    result = orpo_loss(logps, t64([[math.log(0.5)]]), one, one, t64(1.0), odds_weight=1.0)
    weight = torch.sigmoid(result.rejected_rewards - result.chosen_rewards).item()
    grad = torch.autograd.grad(result.loss.sum(), logps)[0].item()
    assert grad == pytest.approx(-1.0 - weight / (1 - p), rel=1e-12)


def test_orpo_stays_finite_at_probability_1() -> None:
    logps = torch.zeros(1, 2, requires_grad=True)
    ones = torch.ones(1, 2)
    result = orpo_loss(logps, logps - 1, ones, ones, torch.tensor(2.0), odds_weight=0.1)
    (grad,) = torch.autograd.grad(result.loss.sum(), logps)
    assert result.loss.isfinite().all()
    assert grad.isfinite().all()


def test_orpo_in_parts_has_the_gradient_of_the_whole_batch() -> None:
    batch = terms()
    whole = [grad / 3 for grad in gradients("orpo", batch)]
    parts = []
    for rows in (slice(0, 2), slice(2, 3)):
        part = PairTerms(
            **{
                field: value[rows] if value.ndim else value
                for field, value in vars(batch).items()
                if value is not None
            }
        )
        result = parse_objective({"name": "orpo"}).loss(part)
        parts.append(result.loss.sum() / 3)
    leaves = (batch.policy_chosen_token_logps, batch.policy_rejected_token_logps)
    for found, expected in zip(
        torch.autograd.grad(torch.stack(parts).sum(), leaves), whole, strict=True
    ):
        assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_half_precision_log_probabilities_are_summed_in_float32() -> None:
    ones = torch.ones(1, 4096, dtype=torch.bfloat16)
    assert masked_sum(ones, ones).tolist() == [4096.0]
    assert masked_sum(ones, ones).dtype == torch.float32


def test_a_column_against_a_row_is_refused_by_name() -> None:
    row, column = t64([1.0, 2.0]), t64([[1.0], [2.0]])
    with pytest.raises(ShapeError, match=r"ref_chosen_logps \[2, 1\]"):
        dpo_loss(row, row, column, row, beta=0.1)
    with pytest.raises(ShapeError, match=r"policy_rejected_mean_logps \[2, 1\]"):
        simpo_loss(row, column, beta=2.0, gamma_beta_ratio=0.5)
    with pytest.raises(ShapeError, match=r"policy_rejected_logps \[2, 1\]"):
        slic_loss(row, column, delta=1.0, sft_weight=0.1)
