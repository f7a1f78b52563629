"""Clipped policy losses: worked cases, where gradients stop, equalities, parts of a batch."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives.aggregation import (
    BatchCounts,
    LossAggregation,
    aggregate_token_losses,
    batch_counts,
    generated_mask,
    row_means,
)
from mmalign.objectives.policy_gradient import (
    PolicyLoss,
    clipped_token_losses,
    dapo_loss,
    dr_grpo_loss,
    grpo_loss,
    gspo_loss,
    ppo_policy_loss,
)
from mmalign.testing.golden import t64

MASK = torch.tensor([[0, 1, 1, 0, 1, 1], [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 1]])
COUNTS = batch_counts(MASK)
ADVANTAGES = t64([0.8, -1.1, 0.3])
AGGREGATIONS: list[LossAggregation] = [
    "seq-mean-token-mean",
    "token-mean",
    "seq-mean-token-sum",
    "seq-mean-token-sum-norm",
]

Loss = Callable[[Tensor, Tensor | None, Tensor, Tensor, BatchCounts], PolicyLoss]


def grpo_with_kl(
    policy: Tensor, old: Tensor | None, advantages: Tensor, mask: Tensor, counts: BatchCounts
) -> PolicyLoss:
    ref = torch.cat([logps(2), logps(3)])[: len(policy)]
    return grpo_loss(policy, old, advantages, mask, counts, ref, kl_weight=0.1)


LOSSES: dict[str, Loss] = {
    "grpo": grpo_with_kl,
    "dr_grpo": lambda *inputs: dr_grpo_loss(*inputs, max_completion_tokens=6),
    "dapo": lambda *inputs: dapo_loss(*inputs, dual_clip=3.0),
    "gspo": lambda *inputs: gspo_loss(*inputs, clip_low=0.1, clip_high=0.2),
}


def logps(seed: int = 0, *, requires_grad: bool = False) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    values = -2 * torch.rand(3, 6, generator=source, dtype=torch.float64)
    return values.requires_grad_(requires_grad)


def gradient(loss: Loss, policy: Tensor, old: Tensor | None = None) -> Tensor:
    total = loss(policy, old, ADVANTAGES, MASK, COUNTS).loss.sum()
    return torch.autograd.grad(total, policy)[0]


def one_token(
    ratio: float, advantage: float, dual_clip: float | None = None
) -> tuple[float, float]:
    """Loss and gradient of a single token."""
    policy = t64([[math.log(ratio)]], requires_grad=True)
    found = clipped_token_losses(
        policy,
        t64([[0.0]]),
        t64([[advantage]]),
        torch.tensor([[1]]),
        clip_low=0.2,
        clip_high=0.28,
        dual_clip=dual_clip,
    )
    (grad,) = torch.autograd.grad(found.losses.sum(), policy)
    return found.losses.item(), grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "dual_clip", "loss", "grad"),
    [
        (1.1, 2.0, None, -2.2, -2.2),  # within: -A * ratio, and its gradient is itself
        (1.5, 2.0, None, -2.56, 0.0),  # above, A > 0: -2 * 1.28
        (0.5, 2.0, None, -1.0, -1.0),  # below, A > 0: still to be raised
        (0.5, -2.0, None, 1.6, 0.0),  # below, A < 0: 2 * 0.8
        (1.5, -2.0, None, 3.0, 3.0),  # above, A < 0: still to be lowered
        (5.0, -2.0, None, 10.0, 10.0),
        (5.0, -2.0, 3.0, 6.0, 0.0),  # the dual clip: 2 * 3
        (5.0, 2.0, 3.0, -2.56, 0.0),  # which is for A < 0 alone
        (1.0, 2.0, None, -2.0, -2.0),  # a tie lets the gradient through
    ],
)
def test_clipped_token_worked_by_hand(
    ratio: float, advantage: float, dual_clip: float | None, loss: float, grad: float
) -> None:
    assert one_token(ratio, advantage, dual_clip) == pytest.approx((loss, grad), rel=1e-12)


@pytest.mark.parametrize(
    ("loss_aggregation", "expected"),
    [
        ("seq-mean-token-mean", ((1 + 3) / 2 + 4) / 2),
        ("token-mean", (1 + 3 + 4) / 3),
        ("seq-mean-token-sum", (1 + 3 + 4) / 2),
        ("seq-mean-token-sum-norm", (1 + 3 + 4) / (2 * 10)),
    ],
)
def test_aggregation_worked_by_hand(loss_aggregation: LossAggregation, expected: float) -> None:
    """Tokens of 1 and 3, of 4, and a rollout without tokens, which enters no mean."""
    values = t64([[1.0, 9.0, 3.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 0]])
    shares = aggregate_token_losses(
        values,
        mask,
        batch_counts(mask),
        loss_aggregation=loss_aggregation,
        max_completion_tokens=10,
    )
    assert shares.sum().item() == pytest.approx(expected, rel=1e-12)
    assert shares[2].item() == 0


def test_gspo_worked_by_hand() -> None:
    """Log-ratios 0.3 and -0.1 over two tokens: s = e^0.1, loss -2 * e^0.1, gradient half of it."""
    policy = t64([[0.3, 7.0, -0.1]], requires_grad=True)
    mask = torch.tensor([[1, 0, 1]])
    zeros = torch.zeros_like(policy)
    found = gspo_loss(
        policy, zeros, t64([2.0]), mask, batch_counts(mask), clip_low=0.2, clip_high=0.2
    )
    s = math.exp(0.1)
    assert found.ratios.item() == pytest.approx(s, rel=1e-12)
    assert found.loss.item() == pytest.approx(-2 * s, rel=1e-12)
    (grad,) = torch.autograd.grad(found.loss.sum(), policy)
    assert_close(grad, t64([[-s, 0.0, -s]]))


@pytest.mark.parametrize("name", LOSSES)
def test_what_stands_outside_the_mask_does_not_matter(name: str) -> None:
    outside = MASK == 0
    plain = gradient(LOSSES[name], logps(requires_grad=True), logps(1))
    spoilt_old = logps(1).masked_fill(outside, math.nan)
    spoilt = logps().masked_fill(outside, math.nan).requires_grad_()
    found = gradient(LOSSES[name], spoilt, spoilt_old)
    assert_close(found, plain, rtol=0, atol=0)
    assert found[outside].abs().max().item() == 0
    assert plain[~outside].abs().max() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_central_differences(name: str) -> None:
    def loss(policy: Tensor) -> Tensor:
        return LOSSES[name](policy, logps(1), ADVANTAGES, MASK, COUNTS).loss

    assert torch.autograd.gradcheck(loss, (logps(requires_grad=True),), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["dr_grpo", "dapo", "gspo"])
def test_equal_rewards_teach_nothing(name: str) -> None:
    policy = logps(requires_grad=True)
    zeros = torch.zeros(3, dtype=torch.float64)
    total = LOSSES[name](policy, logps(1), zeros, MASK, COUNTS).loss.sum()
    assert total.item() == 0
    assert torch.autograd.grad(total, policy)[0].abs().max().item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_without_old_log_probabilities_the_ratio_is_one(name: str) -> None:
    policy = logps(requires_grad=True)
    found = LOSSES[name](policy, None, ADVANTAGES, MASK, COUNTS)
    assert (found.ratios == 1).all()
    assert not found.clipped.any()
    given = LOSSES[name](policy, policy.detach(), ADVANTAGES, MASK, COUNTS)
    assert_close(found.loss, given.loss, rtol=0, atol=0)


def test_on_policy_the_loss_is_minus_the_mean_advantage() -> None:
    centred = t64([0.8, -1.1, 0.3])
    found = grpo_loss(logps(), None, centred, MASK, COUNTS, kl_weight=0.0)
    assert abs(found.loss.sum().item()) < 1e-12


def test_on_policy_gspo_has_the_gradient_of_grpo() -> None:
    policy = logps(requires_grad=True)
    gspo = gradient(LOSSES["gspo"], policy)
    grpo = gradient(lambda *inputs: grpo_loss(*inputs, kl_weight=0.0), policy)
    assert_close(gspo, grpo)


def test_a_better_rollout_is_made_likelier_and_a_worse_one_less_likely() -> None:
    grad = gradient(lambda *inputs: grpo_loss(*inputs, kl_weight=0.0), logps(requires_grad=True))
    inside = MASK.bool()
    assert (grad[0][inside[0]] < 0).all()
    assert (grad[1][inside[1]] > 0).all()


def test_for_equal_lengths_both_token_means_agree() -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]])
    values = logps()
    shares = [
        aggregate_token_losses(values, mask, batch_counts(mask), loss_aggregation=name)
        for name in ("token-mean", "seq-mean-token-mean")
    ]
    assert_close(*shares)


@pytest.mark.parametrize("loss_aggregation", AGGREGATIONS)
def test_parts_of_a_batch_add_up_to_the_whole(loss_aggregation: LossAggregation) -> None:
    policy, old = logps(requires_grad=True), logps(1)

    def loss(rows: slice, counts: BatchCounts) -> Tensor:
        return grpo_loss(
            policy[rows],
            old[rows],
            ADVANTAGES[rows],
            MASK[rows],
            counts,
            kl_weight=0.0,
            loss_aggregation=loss_aggregation,
            max_completion_tokens=6,
        ).loss.sum()

    rows = (slice(0, 2), slice(2, 3))
    first, second = (batch_counts(MASK[r]) for r in rows)
    counts = BatchCounts(
        num_rollouts=first.num_rollouts + second.num_rollouts,
        num_tokens=first.num_tokens + second.num_tokens,
    )
    parts = torch.stack([loss(r, counts) for r in rows]).sum()
    whole = loss(slice(None), COUNTS)
    assert_close(parts, whole)
    assert_close(torch.autograd.grad(parts, policy), torch.autograd.grad(whole, policy))


def test_grpo_with_equal_advantages_of_tokens_is_ppo() -> None:
    policy, old = logps(), logps(1)
    grpo = grpo_loss(
        policy, old, ADVANTAGES, MASK, COUNTS, kl_weight=0.0, loss_aggregation="token-mean"
    )
    ppo = ppo_policy_loss(policy, old, ADVANTAGES[:, None].expand(3, 6), MASK, COUNTS)
    assert_close(grpo.loss, ppo.loss, rtol=0, atol=0)


def test_dapo_lets_likelihoods_rise_further_than_grpo() -> None:
    policy = t64([[math.log(1.25)]])
    one = torch.tensor([[1]])
    inputs = (policy, torch.zeros_like(policy), t64([1.0]), one, batch_counts(one))
    assert not dapo_loss(*inputs).clipped.any()
    assert grpo_loss(*inputs, kl_weight=0.0).clipped.all()


def test_the_kl_is_told_per_rollout_and_weighed_in_the_loss() -> None:
    policy, ref = logps(), logps(2)
    with_kl, without = (
        grpo_loss(policy, None, ADVANTAGES, MASK, COUNTS, ref, kl_weight=weight)
        for weight in (0.5, 0.0)
    )
    assert_close(with_kl.loss - without.loss, 0.5 * with_kl.metrics["kl"] / 3)
    assert with_kl.metrics["kl"].min() > 0
    same = grpo_loss(policy, None, ADVANTAGES, MASK, COUNTS, policy, kl_weight=0.5)
    assert same.metrics["kl"].abs().max().item() == 0


def test_a_rollout_without_tokens_changes_nothing() -> None:
    mask = torch.cat([MASK, torch.zeros(1, 6, dtype=MASK.dtype)])
    policy = torch.cat([logps(), torch.full((1, 6), math.nan)]).requires_grad_()
    old, advantages = torch.cat([logps(1), logps(1)[:1]]), torch.cat([ADVANTAGES, t64([9.0])])
    for loss in LOSSES.values():
        found = loss(policy, old, advantages, mask, batch_counts(mask)).loss
        assert_close(found[:3], loss(policy[:3], old[:3], ADVANTAGES, MASK, COUNTS).loss)
        assert found[3].item() == 0
        assert torch.autograd.grad(found.sum(), policy)[0].isfinite().all()


def test_a_ratio_of_many_nats_stays_finite_in_float32() -> None:
    policy = torch.tensor([[0.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[1, 1]])
    for loss in (dapo_loss, gspo_loss):
        found = loss(
            policy, torch.tensor([[-300.0, 0.0]]), torch.tensor([-1.0]), mask, batch_counts(mask)
        )
        assert found.loss.isfinite().all()
        assert torch.autograd.grad(found.loss.sum(), policy)[0].isfinite().all()


def test_observations_are_cut_out_of_the_response() -> None:
    found = generated_mask(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 0]]))
    assert found.tolist() == [[0, 1, 0, 1]]
    assert row_means(t64([[9.0, 1.0, 9.0, 2.0]]), found).tolist() == [1.5]


def test_wrong_shapes_and_settings_are_refused() -> None:
    inputs = (logps(), logps(1), ADVANTAGES, MASK, COUNTS)
    with pytest.raises(ShapeError, match=r"kl_weight is 0\.1, which needs ref_token_logps"):
        grpo_loss(*inputs, kl_weight=0.1)
    with pytest.raises(ShapeError, match=r"kl_weight is -0\.1"):
        grpo_loss(*inputs, kl_weight=-0.1)
    with pytest.raises(ShapeError, match=r"advantages \[3\], found \[3, 6\]"):
        grpo_loss(logps(), None, logps(), MASK, COUNTS, kl_weight=0.0)
    with pytest.raises(ShapeError, match=r"ref_token_logps \[2, 6\]"):
        grpo_loss(*inputs, logps(2)[:2], kl_weight=0.1)
    with pytest.raises(ShapeError, match=r"old_token_logps \[2, 6\]"):
        dapo_loss(logps(), logps(1)[:2], ADVANTAGES, MASK, COUNTS)
    with pytest.raises(ShapeError, match=r"advantages \[2\]"):
        gspo_loss(logps(), None, ADVANTAGES[:2], MASK, COUNTS)
    with pytest.raises(ShapeError, match=r"clip_low is 0\.0"):
        dapo_loss(*inputs, clip_low=0.0)
    with pytest.raises(ShapeError, match=r"dual_clip is 1\.0"):
        dapo_loss(*inputs, dual_clip=1.0)
    with pytest.raises(ShapeError, match="divides by max_completion_tokens"):
        aggregate_token_losses(logps(), MASK, COUNTS, loss_aggregation="seq-mean-token-sum-norm")
    with pytest.raises(ShapeError, match=r"observation_mask \[1, 6\]"):
        generated_mask(MASK, MASK[:1])
