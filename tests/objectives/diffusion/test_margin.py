"""SmPO-Diffusion: worked cases, identities and limits, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives.diffusion.margin import (
    PICKSCORE_RANGE,
    ScoreRange,
    require_scores_fit,
    score_range,
    smoothed_diffusion_dpo_loss,
    smoothed_preference,
)
from mmalign.objectives.diffusion.pairs import diffusion_dpo_loss
from mmalign.testing.golden import t64

UNIT = ScoreRange(0.0, 1.0)


def errors(seed: int = 0) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return list(torch.rand(4, 3, generator=source, dtype=torch.float64))


def test_preference_worked_by_hand() -> None:
    """Gap (0.3 - 0.1) / (0.5 - 0.1) = 0.5: p = sigmoid(0.5), weight = 10 * tanh(0.25)."""
    found = smoothed_preference(0.1, 0.3, scores=ScoreRange(0.1, 0.5), gamma=10.0)
    probability = 1 / (1 + math.exp(-0.5))
    assert found.chosen == 1
    assert found.probability == pytest.approx(probability, rel=1e-12)
    assert found.alpha == pytest.approx(10 * probability, rel=1e-12)
    assert found.weight == pytest.approx(10 * math.tanh(0.25), rel=1e-12)
    assert found.weight == pytest.approx(2 * found.alpha - 10, rel=1e-12)


def test_loss_worked_by_hand() -> None:
    """Margin 0.5 * 4 * 0.5 = 1, weight 3: loss = log(1 + e^-3)."""
    values = [t64([number]) for number in (1.0, 1.5, 1.2, 1.2)]
    result = smoothed_diffusion_dpo_loss(*[*values, t64([3.0])], beta=4.0)
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-3)), rel=1e-12)
    assert result.metrics["policy_error"].item() == pytest.approx(1.25)


def test_equal_scores_weigh_nothing_and_name_image_1() -> None:
    found = smoothed_preference(0.2, 0.2)
    assert found == (1, 0.5, 5.0, 0.0)
    policy = errors()[0].requires_grad_()
    values = [policy, *errors()[1:], torch.zeros(3, dtype=torch.float64)]
    result = smoothed_diffusion_dpo_loss(*values, beta=5.0)
    assert_close(result.loss, torch.full_like(result.loss, math.log(2)))
    assert torch.autograd.grad(result.loss.sum(), policy)[0].abs().max() == 0


def test_exchanging_the_images_exchanges_the_choice_only() -> None:
    there, back = smoothed_preference(0.2, 0.15), smoothed_preference(0.15, 0.2)
    assert (there.chosen, back.chosen) == (0, 1)
    assert there[1:] == back[1:]


def test_scores_in_their_range_keep_the_weight_below_its_bound() -> None:
    bound = 10 * (2 / (1 + math.exp(-1)) - 1)
    largest = smoothed_preference(PICKSCORE_RANGE.maximum, PICKSCORE_RANGE.minimum)
    assert largest.weight == pytest.approx(bound, rel=1e-12)
    assert 0 < smoothed_preference(0.21, 0.2).weight < bound


def test_a_certain_preference_with_gamma_1_is_not_smoothed() -> None:
    certain = smoothed_preference(100.0, 0.0, scores=UNIT, gamma=1.0)
    assert certain.weight == pytest.approx(1, rel=1e-12)


def test_weights_of_1_are_diffusion_dpo() -> None:
    ones = torch.ones(3, dtype=torch.float64)
    smoothed = smoothed_diffusion_dpo_loss(*[*errors(), ones], beta=5.0)
    assert_close(smoothed.loss, diffusion_dpo_loss(*errors(), beta=5.0).loss, rtol=0, atol=0)


def test_gamma_and_beta_enter_as_their_product() -> None:
    weights = t64([0.5, 2.0, 4.0])
    one = smoothed_diffusion_dpo_loss(*[*errors(), weights], beta=6.0)
    other = smoothed_diffusion_dpo_loss(*[*errors(), 3 * weights], beta=2.0)
    assert_close(one.loss, other.loss, rtol=1e-12, atol=0)


def test_each_pair_has_its_own_weight() -> None:
    weights = t64([0.5, 2.0, 4.0])
    whole = smoothed_diffusion_dpo_loss(*[*errors(), weights], beta=6.0).loss
    for row in range(3):
        alone = [values[row, None] for values in (*errors(), weights)]
        found = smoothed_diffusion_dpo_loss(*alone, beta=6.0).loss
        assert_close(found, whole[row, None], rtol=0, atol=0)


def test_no_gradient_reaches_weights_or_reference() -> None:
    values = [value.requires_grad_() for value in (*errors(), t64([0.5, 2.0, 4.0]))]
    loss = smoothed_diffusion_dpo_loss(*values, beta=6.0).loss.sum()
    grads = torch.autograd.grad(loss, values, allow_unused=True)
    assert [grad is None for grad in grads] == [False, False, True, True, True]


def test_gradient_agrees_with_finite_differences() -> None:
    values, weights = errors(), t64([0.5, 2.0, 4.0])

    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        return smoothed_diffusion_dpo_loss(
            chosen, rejected, values[2], values[3], weights, beta=6.0
        ).loss

    policy = (values[0].requires_grad_(), values[1].requires_grad_())
    assert torch.autograd.gradcheck(loss, policy)


def test_range_is_that_of_the_scores() -> None:
    assert score_range([0.3, 0.1, 0.2]) == ScoreRange(0.1, 0.3)


def test_scores_of_another_scale_are_refused() -> None:
    require_scores_fit([0.12, 0.285])  # within 5 % of the width
    with pytest.raises(RecordError, match=r"run from 12\.0 to 28\.0, expected 0\.115"):
        require_scores_fit([12.0, 28.0])
    with pytest.raises(RecordError, match="the range does not belong to this scorer"):
        require_scores_fit([0.1, 0.2])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.1, math.nan], "score 1 is nan"),
        ([0.1, 0.1], "2 scores hold no two that differ"),
        ([], "0 scores hold no two that differ"),
    ],
)
def test_scores_without_a_range_are_refused(scores: list[float], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        score_range(scores)


def test_broken_scores_and_settings_are_refused() -> None:
    with pytest.raises(RecordError, match=r"the scores are 0\.2 and nan, expected two finite"):
        smoothed_preference(0.2, math.nan)
    with pytest.raises(RecordError, match=r"gamma is 0\.0, expected a positive"):
        smoothed_preference(0.2, 0.1, gamma=0.0)
    with pytest.raises(RecordError, match=r"run from 1\.0 to 1\.0, expected a minimum below"):
        smoothed_preference(0.2, 0.1, scores=ScoreRange(1.0, 1.0))


def test_one_weight_for_the_whole_batch_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"weights \[1\]"):
        smoothed_diffusion_dpo_loss(*[*errors(), t64([1.0])], beta=1.0)
