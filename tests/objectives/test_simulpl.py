"""SimulPL: worked cases, identities and limits, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import RecordError, ShapeError
from mmalign.objectives import dpo_loss
from mmalign.objectives.simulpl import (
    WriteDecisions,
    average_lagging,
    latency_gap,
    read_schedule,
    schedule_of_alignment,
    simulpl_loss,
    write_policy_loss,
)
from mmalign.testing.golden import t64

LOGPS = (t64([-1.0, -5.0]), t64([-3.0, -4.0]), t64([-2.0, -6.0]), t64([-3.0, -3.0]))
PROBS = [[0.9, 0.9, 0.9], [0.2, 0.8, 0.1], [0.6, 0.1, 0.3], [0.1, 0.2, 0.4]]


def decisions(logits: Tensor | None = None, mask: Tensor | None = None) -> WriteDecisions:
    logits = t64([[0.5, -1.0, 2.0], [0.0, 1.0, -0.5]]) if logits is None else logits
    mask = t64([[1, 1, 0], [1, 0, 0]]) if mask is None else mask
    return WriteDecisions(logits, t64([[1, 0, 1], [0, 1, 1]]), mask, mask.sum() / 2)


def loss(gaps: list[float], *, latency_weight: float = 0.5, write_weight: float = 0.0) -> Tensor:
    return simulpl_loss(
        *LOGPS,
        t64(gaps),
        decisions(),
        beta=0.1,
        latency_weight=latency_weight,
        write_weight=write_weight,
    ).loss


def test_simulpl_worked_by_hand() -> None:
    """Equal rewards, gap 0.5 of weight 2: h = 1; one decision of logit 0 costs log 2, half."""
    zero = t64([0.0])
    one = WriteDecisions(t64([[0.0]]), t64([[1.0]]), t64([[1.0]]), t64(1.0))
    result = simulpl_loss(
        zero, zero, zero, zero, t64([0.5]), one, beta=0.1, latency_weight=2.0, write_weight=0.5
    )
    by_hand = math.log1p(math.exp(-1)) + 0.5 * math.log(2)
    assert result.loss.item() == pytest.approx(by_hand, rel=1e-12)
    assert result.metrics["margin"].item() == 1


def test_average_lagging_worked_by_hand() -> None:
    """Never read to its end, tau = 3: ((1 - 0) + (2 - 1) + (2 - 2)) / 3 = 2/3."""
    assert average_lagging([1, 2, 2], source_words=3) == pytest.approx(2 / 3)


def test_a_longer_target_makes_average_lagging_length_adaptive() -> None:
    """With |y| = 6 an ideal translator reads 1/2 word a step: (1 + 1.5 + 1) / 3."""
    assert average_lagging([1, 2, 2], source_words=3, target_words=6) == pytest.approx(3.5 / 3)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_wait_k_lags_k_words(k: int) -> None:
    schedule = [min(k + t, 8) for t in range(8)]
    assert average_lagging(schedule, source_words=8) == pytest.approx(k)


def test_reading_everything_first_lags_the_whole_source() -> None:
    assert average_lagging([7] * 4, source_words=7) == 7


def test_without_both_weights_it_is_dpo() -> None:
    plain = dpo_loss(*LOGPS, beta=0.1).loss
    assert_close(loss([0.3, -0.2], latency_weight=0.0), plain, rtol=0, atol=0)
    assert_close(loss([0.0, 0.0], latency_weight=9.0), plain, rtol=0, atol=0)


def test_a_faster_chosen_side_needs_less_push() -> None:
    faster = latency_gap([1, 2, 3], [3, 3, 3], source_words=3)
    assert faster == pytest.approx((3 - 1) / 3)
    plain = loss([0.0, 0.0])
    assert (loss([faster] * 2) < plain).all()
    assert (loss([-faster] * 2) > plain).all()


def test_latency_carries_no_gradient() -> None:
    gaps = t64([0.2, 0.1], requires_grad=True)
    policy = LOGPS[0].clone().requires_grad_()
    result = simulpl_loss(
        policy, *LOGPS[1:], gaps, decisions(), beta=0.1, latency_weight=0.5, write_weight=1.0
    )
    grads = torch.autograd.grad(result.loss.sum(), (policy, gaps), allow_unused=True)
    assert (grads[0] < 0).all()
    assert grads[1] is None


def test_the_write_gradient_is_probability_minus_label_on_real_decisions() -> None:
    logits = t64([[0.5, -1.0, 2.0], [0.0, 1.0, -0.5]], requires_grad=True)
    found = decisions(logits)
    (grad,) = torch.autograd.grad(write_policy_loss(found).mean(), logits)
    assert_close(grad, (logits.sigmoid() - found.labels) * found.mask / 3)
    assert grad[found.mask == 0].abs().max() == 0


def test_without_a_real_decision_the_write_loss_is_0() -> None:
    logits = t64([[0.5, -1.0, 2.0], [0.0, 1.0, -0.5]], requires_grad=True)
    result = write_policy_loss(decisions(logits, 0 * logits.detach()))
    assert result.tolist() == [0.0, 0.0]
    assert torch.autograd.grad(result.sum(), logits)[0].abs().max() == 0


def test_the_decision_rule_worked_by_hand() -> None:
    """0.2 < 0.5 reads, 0.6 writes at 2; then 0.1 reads; at 3 the source is finished."""
    assert read_schedule(PROBS, threshold=0.5, source_words=3) == [2, 3, 3]


def test_the_threshold_spans_writing_at_once_to_reading_all() -> None:
    assert read_schedule(PROBS, threshold=0.0, source_words=3) == [1, 1, 1]
    assert read_schedule(PROBS, threshold=1.1, source_words=3) == [3, 3, 3]


def test_an_alignment_gives_the_earliest_schedule() -> None:
    assert schedule_of_alignment([[], [3], [1], [2, 4], []]) == [1, 3, 3, 4, 4]


@pytest.mark.parametrize("schedule", [[], [2, 1], [0, 1], [1, 4]])
def test_an_impossible_schedule_is_refused(schedule: list[int]) -> None:
    with pytest.raises(RecordError, match="never falls, from 1 to 3 source words"):
        average_lagging(schedule, source_words=3)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(RecordError, match="target_words is 1, expected 2"):
        average_lagging([1, 2], source_words=3, target_words=1)
    with pytest.raises(ShapeError, match=r"write_probs of 3 rows .*found 4 rows"):
        read_schedule(PROBS, threshold=0.5, source_words=2)
    with pytest.raises(ShapeError, match="holds NaN"):
        read_schedule([[0.5], [math.nan]], threshold=0.5, source_words=1)
    with pytest.raises(RecordError, match="target word 1 is aligned to"):
        schedule_of_alignment([[1], [0]])
    with pytest.raises(ShapeError, match=r"latency_gaps \[1\]"):
        loss([0.1])
    wrong = decisions()._replace(mask=t64([[1.0, 1.0]]))
    with pytest.raises(ShapeError, match=r"mask \[1, 2\]"):
        write_policy_loss(wrong)
