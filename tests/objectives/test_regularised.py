"""RPO, CPO and the rationale losses: worked cases, identities, refused input."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import (
    PairTerms,
    PreferenceLoss,
    dpo_loss,
    masked_sum,
    orpo_loss,
    parse_objective,
)
from mmalign.objectives.regularised import (
    SFTForm,
    cpo_loss,
    rationale_nll,
    rdpo_rationale_loss,
    rorpo_rationale_loss,
    rpo_sft_regularised_loss,
    sft_nll,
)
from mmalign.testing.golden import t64

FORMS: tuple[SFTForm, ...] = ("cumulative", "average", "token_mean")
CHOSEN_MASK = t64([[0, 1, 1, 1], [1, 1, 0, 0]])
REJECTED_MASK = t64([[0, 1, 0, 0], [1, 1, 1, 1]])
RATIONALE_MASK = t64([[1, 1, 0, 0], [1, 1, 1, 0]])


def logps(seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    values = -2 * torch.rand(2, 4, generator=source, dtype=torch.float64)
    return values.requires_grad_()


def rpo(chosen: Tensor, rejected: Tensor, **settings: Any) -> PreferenceLoss:
    """RPO beside a reference of fixed numbers."""
    return rpo_sft_regularised_loss(
        chosen,
        rejected,
        logps(8).detach(),
        logps(9).detach(),
        CHOSEN_MASK,
        REJECTED_MASK,
        CHOSEN_MASK.sum() / 2,
        **({"beta": 0.5, "sft_weight": 0.2} | settings),
    )


def cpo(chosen: Tensor, rejected: Tensor, **settings: Any) -> PreferenceLoss:
    return cpo_loss(
        chosen,
        rejected,
        CHOSEN_MASK,
        REJECTED_MASK,
        CHOSEN_MASK.sum() / 2,
        **({"beta": 0.5, "sft_weight": 0.2} | settings),
    )


def dpo() -> PreferenceLoss:
    """DPO on the same numbers as `rpo` and `rdpo`."""
    return dpo_loss(*answer_sums(), beta=0.5)


def answer_sums() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        masked_sum(logps(0), CHOSEN_MASK),
        masked_sum(logps(1), REJECTED_MASK),
        masked_sum(logps(8), CHOSEN_MASK).detach(),
        masked_sum(logps(9), REJECTED_MASK).detach(),
    )


def rdpo(rationale: Tensor, mask: Tensor = RATIONALE_MASK, **settings: Any) -> PreferenceLoss:
    given: dict[str, Any] = {"beta": 0.5, "rationale_weight": 0.3} | settings
    return rdpo_rationale_loss(*answer_sums(), rationale, mask, **given)


def test_rpo_worked_by_hand() -> None:
    """Policy = reference, sums -3 and -1: log 2 + 0.2 * 0.5 * 3; average log 2 + 0.2 * 1.5."""
    chosen, rejected = t64([[-1.0, -2.0]]), t64([[-1.0, -7.0]])
    both, first = t64([[1, 1]]), t64([[1, 0]])
    values = {
        form: rpo_sft_regularised_loss(
            chosen, rejected, chosen, rejected, both, first, t64(2.0),
            beta=0.5, sft_weight=0.2, sft_form=form,
        )
        for form in FORMS
    }  # fmt: skip
    assert values["cumulative"].loss.item() == pytest.approx(math.log(2) + 0.3, rel=1e-12)
    assert values["average"].loss.item() == pytest.approx(math.log(2) + 0.3, rel=1e-12)
    assert values["cumulative"].metrics["chosen_logps"].item() == -3


def test_cpo_worked_by_hand() -> None:
    """Sums -3 and -1 at beta 1: log(1 + e^2); nll 1.5."""
    both, first = t64([[1, 1]]), t64([[1, 0]])
    result = cpo_loss(
        t64([[-1.0, -2.0]]), t64([[-1.0, -7.0]]), both, first, t64(2.0), beta=1.0, sft_weight=0.1
    )
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(2)) + 0.15, rel=1e-12)


def test_rdpo_worked_by_hand() -> None:
    """log 2 from equal answers, rationale -1 - 2 = -3: paper + 0.1 * 3, code log(1 + e^0.3)."""
    zero, rationale, mask = t64([0.0]), t64([[-1.0, -2.0, -5.0]]), t64([[1, 1, 0]])
    paper = rdpo_rationale_loss(
        zero, zero, zero, zero, rationale, mask, beta=1.0, rationale_weight=0.1
    )
    code = rdpo_rationale_loss(
        zero, zero, zero, zero, rationale, mask,
        beta=1.0, rationale_weight=0.1, rationale_form="logsigmoid",
    )  # fmt: skip
    assert paper.loss.item() == pytest.approx(math.log(2) + 0.3, rel=1e-12)
    assert code.loss.item() == pytest.approx(math.log(2) + math.log1p(math.exp(0.3)), rel=1e-12)


def test_rorpo_worked_by_hand() -> None:
    """p 1/2 and 1/4 have odds 1 and 1/3: log 2 - 2 log(3/4) + 0.1 * 1.5."""
    one, both = t64([[1]]), t64([[1, 1]])
    half, quarter = t64([[math.log(1 / 2)]]), t64([[math.log(1 / 4)]])
    result = rorpo_rationale_loss(
        half, quarter, t64([[-1.0, -2.0]]), one, one, both, t64(1.0),
        odds_weight=2.0, rationale_weight=0.1,
    )  # fmt: skip
    by_hand = math.log(2) - 2 * math.log(3 / 4) + 0.15
    assert result.loss.item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_rpo_without_its_term_is_dpo(form: SFTForm) -> None:
    result = rpo(logps(0), logps(1), sft_weight=0.0, sft_form=form)
    assert_close(result.loss, dpo().loss, rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_rpos_term_lifts_every_chosen_token_and_no_rejected_one(form: SFTForm) -> None:
    leaves = logps(0), logps(1)
    result = rpo(*leaves, sft_form=form)
    plain = rpo(*leaves, sft_weight=0.0)
    chosen, rejected = torch.autograd.grad((result.loss - plain.loss).sum(), leaves)
    assert (chosen[CHOSEN_MASK > 0] < 0).all()
    assert chosen[CHOSEN_MASK == 0].abs().max() == 0
    assert_close(rejected, torch.zeros_like(rejected), rtol=0, atol=1e-15)


def test_rpos_cumulative_form_weighs_the_summed_nll_by_beta() -> None:
    expected = dpo().loss - 0.2 * 0.5 * masked_sum(logps(0), CHOSEN_MASK)
    assert_close(rpo(logps(0), logps(1)).loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_doubling_rpos_weight_doubles_its_term_only(form: SFTForm) -> None:
    once, twice = (rpo(logps(0), logps(1), sft_weight=w, sft_form=form) for w in (0.2, 0.4))
    assert_close(twice.metrics["sft_loss"], 2 * once.metrics["sft_loss"], rtol=1e-12, atol=0)
    assert_close(twice.metrics["rank_loss"], once.metrics["rank_loss"], rtol=0, atol=0)


def test_the_forms_agree_up_to_length_where_all_responses_are_equally_long() -> None:
    mask = t64([[0, 1, 1, 1], [1, 1, 1, 0]])
    cumulative, average, token_mean = (sft_nll(logps(0), mask, t64(3.0), form=f) for f in FORMS)
    assert_close(token_mean, average, rtol=1e-12, atol=0)
    assert_close(cumulative, 3 * average, rtol=1e-12, atol=0)


def test_the_token_mean_counts_every_token_of_the_batch_alike() -> None:
    found = sft_nll(logps(0), CHOSEN_MASK, CHOSEN_MASK.sum() / 2, form="token_mean").mean()
    assert_close(found, -logps(0)[CHOSEN_MASK > 0].mean(), rtol=1e-12, atol=0)


def test_cpo_without_its_term_is_dpo_with_a_uniform_reference() -> None:
    policy = answer_sums()[:2]
    uniform = torch.full_like(policy[0], -7.0)
    expected = dpo_loss(*policy, uniform, uniform, beta=0.5).loss
    assert_close(cpo(logps(0), logps(1), sft_weight=0.0).loss, expected, rtol=1e-12, atol=0)


def test_cpos_sides_pull_alike_only_without_its_term() -> None:
    leaves = logps(0), logps(1)

    def token_pulls(weight: float) -> tuple[Tensor, Tensor]:
        grads = torch.autograd.grad(cpo(*leaves, sft_weight=weight).loss.sum(), leaves)
        return grads[0][0, 1], grads[1][0, 1]  # a token that both masks hold

    chosen, rejected = token_pulls(0.0)
    assert_close(chosen, -rejected, rtol=1e-12, atol=0)
    chosen, rejected = token_pulls(1.0)
    assert_close(chosen, -rejected - 1 / 3, rtol=1e-12, atol=0)


def test_rdpo_without_weight_is_dpo_and_in_the_code_dpo_plus_log_2() -> None:
    paper = rdpo(logps(2), rationale_weight=0.0)
    code = rdpo(logps(2), rationale_weight=0.0, rationale_form="logsigmoid")
    assert_close(paper.loss, dpo().loss, rtol=1e-12, atol=0)
    assert_close(code.loss, dpo().loss + math.log(2), rtol=1e-12, atol=0)


def test_the_rationales_gradient_is_constant_in_the_paper_and_smaller_in_the_code() -> None:
    rationale = logps(2)
    paper, code = (
        torch.autograd.grad(rdpo(rationale, rationale_form=form).loss.sum(), rationale)[0]
        for form in ("likelihood", "logsigmoid")
    )
    assert_close(paper, -0.3 * RATIONALE_MASK, rtol=1e-12, atol=0)
    inside = RATIONALE_MASK > 0
    ratios = (code / paper)[inside]
    assert (ratios >= 0.5).all()
    assert (ratios < 1).all()
    assert code[~inside].abs().max() == 0


@pytest.mark.parametrize("form", ["likelihood", "logsigmoid"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_pair_without_a_rationale_has_dpos_loss_and_no_gradient(
    form: Literal["likelihood", "logsigmoid"], reduction: Literal["sum", "mean"]
) -> None:
    rationale = logps(2)
    missing = t64([[0, 0, 0, 0], [1, 1, 1, 0]])
    result = rdpo(rationale, missing, rationale_form=form, rationale_reduction=reduction)
    (gradient,) = torch.autograd.grad(result.loss.sum(), rationale)
    assert_close(result.loss[0], dpo().loss[0], rtol=0, atol=0)
    assert gradient[0].abs().max() == 0
    assert (gradient[1, :3] < 0).all()


def test_the_mean_of_a_rationale_is_its_sum_over_its_tokens() -> None:
    total, mean = (
        rationale_nll(logps(2), RATIONALE_MASK, weight=0.3, reduction=r, form="likelihood")
        for r in ("sum", "mean")
    )
    assert_close(mean, total / t64([2.0, 3.0]), rtol=1e-12, atol=0)


def test_rorpo_without_rationale_is_orpo() -> None:
    leaves, per_pair = (logps(0), logps(1)), CHOSEN_MASK.sum() / 2
    expected = orpo_loss(*leaves, CHOSEN_MASK, REJECTED_MASK, per_pair, odds_weight=0.5)
    found = rorpo_rationale_loss(
        *leaves, logps(2), CHOSEN_MASK, REJECTED_MASK, torch.zeros(2, 4), per_pair,
        odds_weight=0.5, rationale_weight=0.3, sft_form="token_mean",
    )  # fmt: skip
    assert_close(found.loss.mean(), expected.loss.mean(), rtol=1e-12, atol=0)
    assert_close(found.chosen_rewards, expected.chosen_rewards, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["rpo_sft_regularised", "cpo", "asft"])
def test_what_stands_outside_the_masks_does_not_matter(name: str) -> None:
    def gradient(outside: float) -> Tensor:
        policy = logps(0).detach().where(CHOSEN_MASK > 0, outside).requires_grad_()
        terms = PairTerms(
            policy_chosen_token_logps=policy,
            policy_rejected_token_logps=logps(1),
            chosen_mask=CHOSEN_MASK,
            rejected_mask=REJECTED_MASK,
            ref_chosen_token_logps=logps(8).detach(),
            ref_rejected_token_logps=logps(9).detach(),
            chosen_tokens_per_pair=CHOSEN_MASK.sum() / 2,
        )
        loss = parse_objective({"name": name}).loss(terms).loss
        return torch.autograd.grad(loss.sum(), policy)[0]

    assert_close(gradient(math.nan), gradient(-1.0), rtol=0, atol=0)
    assert gradient(math.nan)[CHOSEN_MASK == 0].abs().max() == 0


def test_the_recipes_defaults_are_the_papers() -> None:
    rpo_config = parse_objective({"name": "rpo_sft_regularised"}).config
    assert rpo_config.model_dump() == {
        "beta": 0.01,
        "sft_weight": 0.005,
        "sft_form": "cumulative",
    }
    cpo_config = parse_objective({"name": "cpo"}).config
    assert cpo_config.model_dump() == {"beta": 0.1, "sft_weight": 1.0, "sft_form": "average"}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"beta is -1\.0, expected a positive finite number"):
        rpo(logps(0), logps(1), beta=-1.0)
    with pytest.raises(ShapeError, match=r"values \[2, 3\], mask \[2, 4\]"):
        cpo(logps(0)[:, :3], logps(1))
    with pytest.raises(ShapeError, match=r"rank_loss \[2\], term \[1\]"):
        rdpo(logps(2)[:1], RATIONALE_MASK[:1])
