"""Steps of a response: weights, masks, mixes and the labels of a process reward model."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss, masked_sum
from mmalign.objectives.stepwise import (
    after_shared_steps,
    check_step_rewards,
    full_step_dpo_loss,
    group_losses,
    mixed_losses,
    prefix_labels,
    process_reward_loss,
    step_weights,
)
from mmalign.testing.golden import t64

SIDES = ("chosen", "rejected")
LOGPS = tuple(f"{model}_{side}_token_logps" for model in ("policy", "ref") for side in SIDES)


def pairs(**changed: Any) -> dict[str, Any]:
    """Two pairs with log-probabilities at random; the second rejected response has one step."""
    source = torch.Generator().manual_seed(0)
    values: dict[str, Any] = {
        name: -2 * torch.rand(2, 5, generator=source, dtype=torch.float64) for name in LOGPS
    }
    for side in SIDES:
        values[f"policy_{side}_token_logps"].requires_grad_()
    values |= {
        "chosen_step_ids": torch.tensor([[-1, 0, 0, 1, 2], [0, 1, 1, -1, -1]]),
        "rejected_step_ids": torch.tensor([[-1, 0, 1, 1, -1], [0, 0, 0, 0, -1]]),
        "chosen_step_rewards": t64([[0.9, 0.4, 0.6], [0.3, 0.8, math.nan]]),
        "rejected_step_rewards": t64([[0.7, 0.1], [0.5, 0.2]]),
        "beta": 0.3,
        "gamma": 2.0,
    }
    return values | changed


def dpo_on_whole_responses(given: dict[str, Any]) -> Tensor:
    sums = [
        masked_sum(given[f"{model}_{side}_token_logps"], given[f"{side}_step_ids"] >= 0)
        for model in ("policy", "ref")
        for side in SIDES
    ]
    return dpo_loss(*sums, beta=given["beta"]).loss


def gradients(losses: Tensor, given: dict[str, Any]) -> list[Tensor]:
    leaves = [given[f"policy_{side}_token_logps"] for side in SIDES]
    return list(torch.autograd.grad(losses.mean(), leaves))


def test_full_step_dpo_worked_by_hand() -> None:
    """Chosen rewards log 3 and 0 weigh 3/4 and 1/4, rescaled 3/2 and 1/2; one rejected step.

    m = (3/2 * 1 + 1/2 * 3) - 1 * 2 = 1, h = (1 + 3) - 2 = 2; loss = log(1 + e^-0.5).
    """
    given: dict[str, Any] = {
        "policy_chosen_token_logps": t64([[1.0, 3.0]]),
        "policy_rejected_token_logps": t64([[2.0]]),
        "ref_chosen_token_logps": t64([[0.0, 0.0]]),
        "ref_rejected_token_logps": t64([[0.0]]),
        "chosen_step_ids": torch.tensor([[0, 1]]),
        "rejected_step_ids": torch.tensor([[0]]),
        "chosen_step_rewards": t64([[math.log(3), 0.0]]),
        "rejected_step_rewards": t64([[0.4]]),
    }
    result = full_step_dpo_loss(**given, beta=0.5, gamma=1.0)
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(-0.5)), rel=1e-12)
    assert result.metrics["weighted_margin"].item() == pytest.approx(1.0)
    assert result.metrics["full_margin"].item() == pytest.approx(2.0)
    surrogate = full_step_dpo_loss(**given, beta=0.5, gamma=1.0, reading="gradient").loss
    assert surrogate.item() == pytest.approx(-0.5 / (1 + math.exp(1.0)), rel=1e-12)


def test_without_sharpness_the_rescaled_margin_is_dpo() -> None:
    given = pairs(gamma=0.0)
    loss = full_step_dpo_loss(**given).loss
    assert_close(loss, dpo_on_whole_responses(given), rtol=1e-12, atol=0)


def test_without_sharpness_both_readings_have_the_gradient_of_dpo() -> None:
    given = pairs(gamma=0.0)
    expected = gradients(dpo_on_whole_responses(given), given)
    for reading in ("margin", "gradient"):
        found = gradients(full_step_dpo_loss(**given, reading=reading).loss, given)
        assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_both_readings_give_parallel_gradients_for_one_pair() -> None:
    whole = pairs()
    one: dict[str, Any] = {
        name: value[:1].detach().requires_grad_("policy" in name)
        if isinstance(value, Tensor)
        else value
        for name, value in whole.items()
    }
    margin, gradient = (
        torch.cat(gradients(full_step_dpo_loss(**one, reading=reading).loss, one), dim=1)
        for reading in ("margin", "gradient")
    )
    cosine = torch.nn.functional.cosine_similarity(margin, gradient)
    assert cosine.item() == pytest.approx(1.0, abs=1e-12)
    assert not torch.allclose(margin, gradient, rtol=1e-3)


def test_log_2_where_policy_equals_reference() -> None:
    given = pairs()
    for side in SIDES:
        given[f"policy_{side}_token_logps"] = given[f"ref_{side}_token_logps"]
    loss = full_step_dpo_loss(**given).loss
    assert_close(loss, torch.full_like(loss, math.log(2)), rtol=1e-12, atol=0)


def test_what_stands_outside_the_steps_does_not_matter() -> None:
    given = pairs()
    outside = given["chosen_step_ids"] < 0
    spoilt = given["policy_chosen_token_logps"].detach().masked_fill(outside, math.nan)
    changed = pairs(policy_chosen_token_logps=spoilt.requires_grad_())
    expected = gradients(full_step_dpo_loss(**given).loss, given)
    found = gradients(full_step_dpo_loss(**changed).loss, changed)
    assert_close(found, expected, rtol=0, atol=0)
    assert found[0][outside].abs().max() == 0


def test_rewards_get_no_gradient() -> None:
    rewards = t64([[0.9, 0.4, 0.6], [0.3, 0.8, 0.0]], requires_grad=True)
    given = pairs(chosen_step_rewards=rewards)
    loss = full_step_dpo_loss(**given).loss.sum()
    (to_rewards,) = torch.autograd.grad(loss, rewards, allow_unused=True)
    assert to_rewards is None


def test_weights_sum_to_1_over_the_steps_that_are_there_and_are_0_elsewhere() -> None:
    rewards, ids = pairs()["chosen_step_rewards"], pairs()["chosen_step_ids"]
    weights = step_weights(rewards, ids, gamma=2.0, rescale=False)
    assert_close(weights.sum(-1), t64([1.0, 1.0]), rtol=1e-12, atol=0)
    assert weights[1, 2] == 0
    rescaled = step_weights(rewards, ids, gamma=2.0)
    assert_close(rescaled, weights * t64([[3.0], [2.0]]), rtol=1e-12, atol=0)


def test_equal_rewards_give_equal_weights() -> None:
    ids = torch.tensor([[0, 1, 1, 2]])
    weights = step_weights(t64([[0.7, 0.7, 0.7]]), ids, gamma=5.0)
    assert_close(weights, torch.ones_like(weights), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [1.5, -1.5])
def test_a_larger_reward_raises_a_chosen_weight_and_lowers_a_rejected_one(gamma: float) -> None:
    ids = torch.tensor([[0, 1]])
    before, after = (
        step_weights(t64([[reward, 0.5]]), ids, gamma=gamma)[0, 0] for reward in (0.2, 0.3)
    )
    assert math.copysign(1, (after - before).item()) == math.copysign(1, gamma)


def test_a_row_without_a_step_has_weights_of_0() -> None:
    weights = step_weights(t64([[0.2, 0.3]]), torch.tensor([[-1, -1, -1]]), gamma=1.0)
    assert weights.tolist() == [[0.0, 0.0]]


def test_rewards_of_another_batch_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"with the same B, found \[1, 2\] and \[2, 3\]"):
        step_weights(t64([[0.2, 0.3]]), torch.zeros(2, 3, dtype=torch.long), gamma=1.0)


def test_ids_of_another_shape_and_a_beta_of_0_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"chosen_step_ids \[2, 4\]"):
        full_step_dpo_loss(**pairs(chosen_step_ids=torch.zeros(2, 4, dtype=torch.long)))
    with pytest.raises(ShapeError, match=r"beta is 0\.0, expected a positive"):
        full_step_dpo_loss(**pairs(beta=0.0))


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ([[0.1, 0.2], [0.3, 0.4]], "pair 'a': step 2 of the chosen response has no reward; 2 are"),
        ([[0.1, 0.2, 0.3], [0.4, 1.5, 0.0]], "pair 'b': step 1 of .* has the reward 1.5"),
        ([[0.1, math.nan, 0.3], [0.4, 0.5, 0.0]], "pair 'a': step 1 of .* has the reward nan"),
    ],
)
def test_missing_and_broken_rewards_are_named_by_record(
    rewards: list[list[float]], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        check_step_rewards(t64(rewards), pairs()["chosen_step_ids"], ["a", "b"], side="chosen")


def test_rewards_of_absent_steps_are_not_checked() -> None:
    given = pairs()
    rewards, ids = given["chosen_step_rewards"], given["chosen_step_ids"]
    check_step_rewards(rewards, ids, ["a", "b"], side="chosen")
    assert step_weights(rewards, ids, gamma=1.0).isfinite().all()


def test_only_tokens_after_the_shared_steps_count() -> None:
    ids = torch.tensor([[-1, 0, 1, 2, -1], [-1, 0, 0, 1, 2]])
    mask = after_shared_steps(ids, torch.tensor([0, 1]))
    assert mask.int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_without_shared_steps_the_mask_is_the_whole_response() -> None:
    ids = pairs()["chosen_step_ids"]
    assert after_shared_steps(ids, torch.tensor([-1, -1])).equal(ids >= 0)


def test_tool_output_can_be_left_out() -> None:
    ids = torch.tensor([[0, 1, 1, 2]])
    mask = after_shared_steps(ids, torch.tensor([0]), tool_output=torch.tensor([[0, 0, 1, 0]]))
    assert mask.int().tolist() == [[0, 1, 0, 1]]


def test_a_shared_prefix_cancels_in_the_margin_and_gives_no_gradient_once_masked() -> None:
    """Both prefixes have the log-ratio 0.5, so masking them changes no loss."""
    ids = torch.tensor([[0, 1, 1]])
    policy = {
        side: t64([[-1.0, -2.0, x]], requires_grad=True) for side, x in (("c", -1), ("r", -3))
    }
    ref = t64([[-1.5, -2.0, -2.0]])

    def loss(last_shared_step: int) -> Tensor:
        mask = after_shared_steps(ids, torch.tensor([last_shared_step]))
        sums = [masked_sum(values, mask) for values in (policy["c"], policy["r"], ref, ref)]
        return dpo_loss(*sums, beta=0.5).loss

    assert_close(loss(0), loss(-1), rtol=1e-12, atol=0)
    chosen, rejected = torch.autograd.grad(loss(0).sum(), list(policy.values()))
    assert chosen[0, 0] == rejected[0, 0] == 0
    assert chosen[0, 1] < 0 < rejected[0, 1]


def test_shared_steps_of_another_batch_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"found \[1, 3\] and \[2\]"):
        after_shared_steps(torch.tensor([[0, 1, 1]]), torch.tensor([0, 0]))


def test_mixes_worked_by_hand() -> None:
    """One naive loss 4, two others 1 and 3: pooled (4 + 1 + 3) / 3, summed 4 + (1 + 3) / 2."""
    losses, is_naive = t64([4.0, 1.0, 3.0]), torch.tensor([1, 0, 0])
    assert mixed_losses(losses, is_naive).mean().item() == pytest.approx(8 / 3)
    assert mixed_losses(losses, is_naive, mix="sum").mean().item() == pytest.approx(6.0)


def test_the_pooled_loss_is_the_mean_of_both_kinds_weighted_by_their_counts() -> None:
    losses, is_naive = t64([0.4, 1.0, 3.0, 2.5]), torch.tensor([0, 1, 0, 0])
    naive, controlled = (
        group_losses(losses, kind).mean() for kind in (is_naive == 1, is_naive == 0)
    )
    assert_close(mixed_losses(losses, is_naive).mean(), (naive + 3 * controlled) / 4)


def test_an_empty_kind_adds_nothing_to_the_sum() -> None:
    losses = t64([0.4, 1.0])
    mixed = mixed_losses(losses, torch.tensor([1, 1]), mix="sum")
    assert_close(mixed, losses, rtol=0, atol=0)
    assert group_losses(losses, torch.tensor([0, 0])).tolist() == [0.0, 0.0]


def test_a_column_of_kinds_is_refused() -> None:
    for mix in ("pooled", "sum"):
        with pytest.raises(ShapeError, match="one number per pair"):
            mixed_losses(t64([1.0, 2.0]), torch.tensor([[1], [0]]), mix=mix)


def test_the_soft_label_is_the_share_of_right_rollouts_and_the_hard_one_asks_for_any() -> None:
    labels = prefix_labels(t64([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]))
    assert labels.soft.tolist() == [0.5, 0.0, 1.0]
    assert labels.hard.tolist() == [1, 0, 1]


def test_process_reward_losses_worked_by_hand() -> None:
    """p = 3/4, label 1/2: -(log 3/4 + log 1/4) / 2 and (3/4 - 1/2)^2."""
    logits, labels = t64([math.log(3)]), t64([0.5])
    entropy = process_reward_loss(logits, labels)
    assert entropy.item() == pytest.approx(-0.5 * math.log(3 / 16), rel=1e-12)
    assert process_reward_loss(logits, labels, kind="mse").item() == pytest.approx(1 / 16)


@pytest.mark.parametrize("kind", ["bce", "mse"])
def test_process_reward_losses_are_smallest_at_the_label_and_leave_it_alone(kind: Any) -> None:
    labels = t64([0.25], requires_grad=True)
    logits = torch.logit(t64([0.25])).requires_grad_()
    loss = process_reward_loss(logits, labels, kind=kind).sum()
    to_logits, to_labels = torch.autograd.grad(loss, (logits, labels), allow_unused=True)
    assert to_logits.abs().max() < 1e-15
    assert to_labels is None


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"logits \[2\], labels \[2, 1\]"):
        process_reward_loss(t64([0.0, 0.0]), t64([[0.0], [1.0]]))
