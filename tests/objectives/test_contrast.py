"""DPO on ambiguous answers and on altered clips: special cases, limits, refused input."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ConfigError, ShapeError
from mmalign.objectives import PairTerms, dpo_loss, parse_objective
from mmalign.objectives.contrast import altered_clip_loss, cat_adpo_loss
from mmalign.testing.golden import t64


def terms() -> PairTerms:
    source = torch.Generator().manual_seed(0)

    def logps() -> Tensor:
        return -2 * torch.rand(2, 4, generator=source, dtype=torch.float64)

    return PairTerms(
        policy_chosen_token_logps=logps().requires_grad_(),
        policy_rejected_token_logps=logps().requires_grad_(),
        ref_chosen_token_logps=logps(),
        ref_rejected_token_logps=logps(),
        chosen_mask=t64([[0, 1, 1, 1], [0, 0, 1, 0]]),
        rejected_mask=t64([[0, 1, 1, 0], [0, 1, 1, 1]]),
    )


def test_cat_adpo_worked_by_hand() -> None:
    """Margin 0.5 * ((-1 - 2) - (-4)) - 0 = 0.5, nll (1 + 2) / 2: log(1 + e^-0.5) + 0.1 * 1.5."""
    result = cat_adpo_loss(
        policy_chosen_token_logps=t64([[-1.0, -2.0, -9.0]]),
        policy_rejected_token_logps=t64([[-3.0]]),
        ref_chosen_token_logps=t64([[-2.0, -2.0, 0.0]]),
        ref_rejected_token_logps=t64([[-3.0]]),
        chosen_mask=t64([[1, 1, 0]]),
        rejected_mask=t64([[1]]),
        beta=0.5,
        lm_coef=0.1,
    )
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-0.5)) + 0.15, rel=1e-12)
    assert result.metrics["nll"].item() == pytest.approx(1.5)


def test_cat_adpo_without_fine_tuning_is_dpo() -> None:
    plain, adpo = (parse_objective({"name": name}).loss(terms()) for name in ("dpo", "cat_adpo"))
    assert_close(adpo.loss, plain.loss, rtol=0, atol=0)
    assert_close(adpo.chosen_rewards, plain.chosen_rewards, rtol=0, atol=0)


def test_fine_tuning_weighs_each_chosen_token_by_the_length_of_its_response() -> None:
    batch = terms()
    loss = parse_objective({"name": "cat_adpo", "lm_coef": 0.6}).loss(batch).loss
    dpo = parse_objective({"name": "dpo"}).loss(batch).loss
    (grad,) = torch.autograd.grad((loss - dpo).sum(), batch.policy_chosen_token_logps)
    assert_close(grad, t64([[0, -0.2, -0.2, -0.2], [0, 0, -0.6, 0]]), rtol=1e-12, atol=1e-15)


def test_a_negative_share_of_fine_tuning_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lm_coef: .*greater than or equal to 0"):
        parse_objective({"name": "cat_adpo", "lm_coef": -0.1})


def test_cat_adpo_refuses_sides_of_different_batches() -> None:
    one, two = t64([[-1.0]]), t64([[-1.0], [-1.0]])
    with pytest.raises(ShapeError, match=r"policy_rejected_logps \[2\]"):
        cat_adpo_loss(one, two, one, two, one, two, beta=0.1)


def clips(**changed: Any) -> dict[str, Any]:
    """Two samples with three altered clips each."""
    values: dict[str, Any] = {
        "policy_logps": t64([-3.0, -5.0], requires_grad=True),
        "policy_altered_logps": t64([[-4.0, -6.0, -3.5], [-5.0, -5.5, -9.0]], requires_grad=True),
        "ref_logps": t64([-3.5, -5.0]),
        "ref_altered_logps": t64([[-4.0, -5.0, -3.0], [-5.5, -5.0, -8.0]]),
        "selected": torch.tensor([1, 2]),
        "weights": t64([0.5, 1.0]),
    }
    return values | changed


def test_altered_clips_worked_by_hand() -> None:
    """h = 0.4 * ((-3 + 3.5) - (-6 + 5)) = 0.6, so loss = 0.5 * log(1 + e^-0.6)."""
    result = altered_clip_loss(**clips(), beta=0.4)
    assert result.loss[0].item() == pytest.approx(0.5 * math.log1p(math.exp(-0.6)), rel=1e-12)
    assert result.rejected_rewards[0].item() == pytest.approx(-0.4)


def test_one_altered_clip_of_weight_1_is_dpo() -> None:
    given = clips()
    single = clips(
        policy_altered_logps=given["policy_altered_logps"][:, 1:2],
        ref_altered_logps=given["ref_altered_logps"][:, 1:2],
        selected=torch.tensor([0, 0]),
        weights=t64([1.0, 1.0]),
    )
    dpo = dpo_loss(
        given["policy_logps"],
        given["policy_altered_logps"][:, 1],
        given["ref_logps"],
        given["ref_altered_logps"][:, 1],
        beta=0.4,
    )
    assert_close(altered_clip_loss(**single, beta=0.4).loss, dpo.loss, rtol=0, atol=0)


def test_clips_that_were_not_selected_and_pairs_of_weight_0_get_no_gradient() -> None:
    given = clips(weights=t64([0.0, 1.0], requires_grad=True))
    result = altered_clip_loss(**given, beta=0.4)
    leaves = (given["policy_logps"], given["policy_altered_logps"], given["weights"])
    clip, altered, weights = torch.autograd.grad(result.loss.sum(), leaves, allow_unused=True)
    assert result.loss[0] == clip[0] == 0
    assert clip[1] < 0
    assert (altered != 0).tolist() == [[False, False, False], [False, False, True]]
    assert weights is None


def test_unweighted_loss_is_log_2_where_policy_equals_reference() -> None:
    given = clips(
        policy_logps=clips()["ref_logps"], policy_altered_logps=clips()["ref_altered_logps"]
    )
    rank_loss = altered_clip_loss(**given, beta=0.4).metrics["rank_loss"]
    assert_close(rank_loss, torch.full_like(rank_loss, math.log(2)), rtol=1e-12, atol=0)


def test_clips_permuted_with_their_index_give_the_same_loss() -> None:
    given = clips()
    order = torch.tensor([2, 0, 1])
    permuted = clips(
        policy_altered_logps=given["policy_altered_logps"][:, order],
        ref_altered_logps=given["ref_altered_logps"][:, order],
        selected=torch.tensor([2, 0]),
    )
    found = altered_clip_loss(**permuted, beta=0.4).loss
    assert_close(found, altered_clip_loss(**given, beta=0.4).loss, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"selected": torch.tensor([[1], [2]])}, r"selected \[2, 1\]"),
        ({"ref_altered_logps": t64([[0.0], [0.0]])}, r"ref_altered_logps \[2, 1\]"),
        (
            {"policy_altered_logps": t64([[0.0]] * 3), "ref_altered_logps": t64([[0.0]] * 3)},
            r"with the same B, found \[2\] and \[3, 1\]",
        ),
    ],
)
def test_clips_of_other_samples_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        altered_clip_loss(**clips(**changed), beta=0.4)


def test_a_beta_of_0_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"beta is 0\.0"):
        altered_clip_loss(**clips(), beta=0.0)
