"""RRPO: golden numbers, worked cases, identities, refused input."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss, forward_kl, masked_sum, phrase_sums, rrpo_loss
from mmalign.testing.golden import golden_cases, t64

GOLDEN = golden_cases(Path(__file__).parents[1] / "golden" / "rrpo.json")
B, T, V = 2, 5, 7


def batch(seed: int = 0) -> dict[str, Any]:
    """Random arguments of `rrpo_loss`, without the KL."""
    source = torch.Generator().manual_seed(seed)
    values: dict[str, Any] = {
        f"{model}_{side}_token_logps": -2 * torch.rand(B, T, generator=source, dtype=torch.float64)
        for model in ("policy", "ref")
        for side in ("chosen", "rejected")
    }
    return values | {
        "chosen_mask": torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
        "rejected_mask": torch.tensor([[0, 1, 1, 1, 0], [1, 1, 1, 1, 0]]),
        "chosen_phrase_ids": torch.tensor([[0, 1, 0, 2, 0], [0, 0, 1, 0, 0]]),
        "rejected_phrase_ids": torch.tensor([[0, 1, 0, 2, 0], [0, 1, 1, 0, 0]]),
        "chosen_token_kl": torch.rand(B, T, generator=source, dtype=torch.float64),
    }


def test_worked_by_hand() -> None:
    """Only tokens in phrases count: u = 0.5 * ((-1 + 2) - (-4 + 1)) = 2, kl = 0.1 + 0.3."""
    result = rrpo_loss(
        policy_chosen_token_logps=t64([[-1.0, -9.0]]),
        policy_rejected_token_logps=t64([[-9.0, -4.0]]),
        ref_chosen_token_logps=t64([[-2.0, -5.0]]),
        ref_rejected_token_logps=t64([[-5.0, -1.0]]),
        chosen_mask=torch.tensor([[1, 1]]),
        rejected_mask=torch.tensor([[1, 1]]),
        chosen_phrase_ids=torch.tensor([[1, 0]]),
        rejected_phrase_ids=torch.tensor([[0, 1]]),
        chosen_token_kl=t64([[0.1, 0.3]]),
        beta=0.5,
        alpha=0.25,
    )
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-2)) + 0.25 * 0.4, rel=1e-12)
    assert result.chosen_rewards.item() == pytest.approx(0.5)
    assert result.rejected_rewards.item() == pytest.approx(-1.5)
    assert result.metrics["kl"].item() == pytest.approx(0.4)


def test_spans_over_whole_responses_without_kl_are_dpo() -> None:
    given = batch()
    given["chosen_phrase_ids"] = torch.ones(B, T, dtype=torch.long)
    given["rejected_phrase_ids"] = torch.ones(B, T, dtype=torch.long)
    dpo = dpo_loss(
        *(
            masked_sum(given[f"{model}_{side}_token_logps"], given[f"{side}_mask"])
            for model in ("policy", "ref")
            for side in ("chosen", "rejected")
        ),
        beta=0.3,
    )
    rrpo = rrpo_loss(**given, beta=0.3, alpha=0.0)
    assert_close(rrpo.loss, dpo.loss, rtol=1e-12, atol=0)
    assert_close(rrpo.chosen_rewards, dpo.chosen_rewards, rtol=1e-12, atol=0)


def test_log_2_and_no_kl_where_policy_equals_reference() -> None:
    given = batch()
    logits = torch.randn(B, T, V, dtype=torch.float64)
    for side in ("chosen", "rejected"):
        given[f"policy_{side}_token_logps"] = given[f"ref_{side}_token_logps"]
    given["chosen_token_kl"] = forward_kl(logits, logits.log_softmax(-1))
    result = rrpo_loss(**given, beta=0.3, alpha=1.0)
    assert_close(result.loss, torch.full_like(result.loss, math.log(2)))
    assert result.chosen_rewards.abs().max() == 0
    assert result.rejected_rewards.abs().max() == 0


def test_kl_is_never_negative_and_zero_only_at_the_reference() -> None:
    policy, ref = torch.randn(2, 50, V, dtype=torch.float64)
    assert (forward_kl(policy, ref.log_softmax(-1)) > 0).all()
    assert forward_kl(ref, ref.log_softmax(-1)).abs().max() < 1e-14


def test_kl_runs_from_the_reference_to_the_policy() -> None:
    """sum of ref * log(ref / policy) = 0.5 log(0.5 / 0.8) + 0.5 log(0.5 / 0.2)."""
    kl = forward_kl(t64([0.8, 0.2]).log(), t64([0.5, 0.5]).log())
    by_hand = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    assert kl.item() == pytest.approx(by_hand, rel=1e-12)


def test_kl_gradient_is_policy_minus_reference() -> None:
    logits = torch.randn(4, V, dtype=torch.float64, requires_grad=True)
    ref = torch.randn(4, V, dtype=torch.float64).log_softmax(-1)
    (grad,) = torch.autograd.grad(forward_kl(logits, ref).sum(), logits)
    assert_close(grad, logits.detach().softmax(-1) - ref.exp(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kl_is_finite_for_extreme_logits(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    ref = torch.tensor([[-1e4, 1e4, -math.inf]]).log_softmax(-1)
    kl = forward_kl(logits, ref)
    (grad,) = torch.autograd.grad(kl.sum(), logits)
    assert kl.dtype == torch.float32
    assert kl.item() == pytest.approx(2e4, rel=1e-2)
    assert grad.isfinite().all()


def test_rejected_side_gets_no_gradient_from_the_kl() -> None:
    given = batch()
    policy = given["policy_rejected_token_logps"].requires_grad_()
    grads = [
        torch.autograd.grad(rrpo_loss(**given, beta=0.3, alpha=alpha).loss.sum(), policy)[0]
        for alpha in (0.0, 5.0)
    ]
    assert_close(grads[0], grads[1], rtol=0, atol=0)


def test_tokens_outside_phrases_get_no_ranking_gradient() -> None:
    given = batch()
    for side in ("chosen", "rejected"):
        policy = given[f"policy_{side}_token_logps"].requires_grad_()
        (grad,) = torch.autograd.grad(rrpo_loss(**given, beta=0.3, alpha=0.5).loss.sum(), policy)
        inside = (given[f"{side}_phrase_ids"] > 0) & (given[f"{side}_mask"] > 0)
        assert grad[~inside].abs().max() == 0
        assert (grad[inside] < 0 if side == "chosen" else grad[inside] > 0).all()


def test_chosen_logits_outside_phrases_feel_only_the_kl() -> None:
    given = batch()
    logits = torch.randn(B, T, V, dtype=torch.float64, requires_grad=True)
    ref = torch.randn(B, T, V, dtype=torch.float64).log_softmax(-1)
    given["policy_chosen_token_logps"] = logits.log_softmax(-1)[..., 0]
    given["chosen_token_kl"] = forward_kl(logits, ref)
    loss = rrpo_loss(**given, beta=0.3, alpha=0.5).loss.sum()
    (grad,) = torch.autograd.grad(loss, logits)
    shared = (given["chosen_phrase_ids"] == 0) & (given["chosen_mask"] > 0)
    pull = 0.5 * (logits.detach().softmax(-1) - ref.exp())
    assert_close(grad[shared], pull[shared], rtol=1e-9, atol=1e-12)
    assert grad[given["chosen_mask"] == 0].abs().max() == 0


def test_grouping_and_numbering_of_phrases_do_not_matter() -> None:
    given = batch()
    expected = rrpo_loss(**given, beta=0.3, alpha=0.5).loss
    for side in ("chosen", "rejected"):
        given[f"{side}_phrase_ids"] = (given[f"{side}_phrase_ids"] > 0) * 9
    assert_close(rrpo_loss(**given, beta=0.3, alpha=0.5).loss, expected, rtol=0, atol=0)


def test_swapping_the_sides_negates_the_margin() -> None:
    given = batch()
    result = rrpo_loss(**given, beta=0.3, alpha=0.0)
    swapped = {
        name.replace("chosen", "?").replace("rejected", "chosen").replace("?", "rejected"): value
        for name, value in given.items()
        if name != "chosen_token_kl"
    }
    back = rrpo_loss(**swapped, chosen_token_kl=given["chosen_token_kl"], beta=0.3, alpha=0.0)
    assert_close(back.chosen_rewards, result.rejected_rewards, rtol=0, atol=0)
    assert_close(back.rejected_rewards, result.chosen_rewards, rtol=0, atol=0)


def test_padding_and_sides_of_unequal_length_change_nothing() -> None:
    given = batch()
    padded: dict[str, Any] = {
        name: torch.nn.functional.pad(value, (0, 2 if "chosen" in name else 6), value=0)
        for name, value in given.items()
    }
    for name in ("policy_chosen_token_logps", "chosen_token_kl"):
        padded[name][:, T:] = math.nan
    expected = rrpo_loss(**given, beta=0.3, alpha=0.5).loss
    assert_close(rrpo_loss(**padded, beta=0.3, alpha=0.5).loss, expected, rtol=0, atol=0)


def test_mean_kl_is_free_of_the_response_length() -> None:
    given = batch()
    given["chosen_token_kl"] = torch.full((B, T), 0.4, dtype=torch.float64)
    total = rrpo_loss(**given, beta=0.3, alpha=1.0).metrics["kl"]
    mean = rrpo_loss(**given, beta=0.3, alpha=1.0, kl_reduction="mean").metrics["kl"]
    assert_close(total, t64([1.6, 1.2]))
    assert_close(mean, t64([0.4, 0.4]))


def test_phrase_sums_add_up_to_the_rewards() -> None:
    given = batch()
    gap = given["policy_chosen_token_logps"] - given["ref_chosen_token_logps"]
    sums = phrase_sums(gap, given["chosen_phrase_ids"], num_phrases=2)
    assert sums[1, 1] == 0
    assert sums[0, 0] == gap[0, 1]
    result = rrpo_loss(**given, beta=0.3, alpha=0.5)
    assert_close(0.3 * sums.sum(-1), result.chosen_rewards)


def test_the_loss_compiles_as_one_graph() -> None:
    given = batch()
    compiled = torch.compile(rrpo_loss, backend="eager", fullgraph=True)
    expected = rrpo_loss(**given, beta=0.3, alpha=0.5).loss
    assert_close(compiled(**given, beta=0.3, alpha=0.5).loss, expected)


def test_shapes_are_refused_by_name() -> None:
    given = batch()
    short = given | {"chosen_token_kl": given["chosen_token_kl"][:, 1:]}
    with pytest.raises(ShapeError, match=r"chosen_phrase_ids \[2, 5\], chosen_token_kl \[2, 4\]"):
        rrpo_loss(**short, beta=0.3, alpha=0.5)
    fewer = {n: v[:1] if "rejected" in n else v for n, v in given.items()}
    with pytest.raises(ShapeError, match=r"chosen_rewards \[2\], rejected_rewards \[1\]"):
        rrpo_loss(**fewer, beta=0.3, alpha=0.5)
    with pytest.raises(ShapeError, match=r"policy_logits \[1, 7\], ref_logprobs \[1, 8\]"):
        forward_kl(torch.zeros(1, 7), torch.zeros(1, 8))
