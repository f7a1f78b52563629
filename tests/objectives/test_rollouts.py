"""What the objectives over rollouts read, RLOO, and settings that the trainer keeps to itself."""

import math
from typing import Any

import pytest
import torch

from mmalign.errors import ShapeError
from mmalign.objectives import OBJECTIVES, BatchCounts, RolloutTerms, parse_objective
from mmalign.objectives.groups import group_advantages
from mmalign.objectives.policy_gradient import grpo_loss
from mmalign.objectives.rollouts import GroupSettings, RolloutSettings, rloo_loss

OVER_ROLLOUTS = [name for name, entry in OBJECTIVES.items() if entry.unit == "rollout"]
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def terms(**changed: Any) -> RolloutTerms:
    known: dict[str, Any] = {
        "policy_token_logps": torch.tensor([[-1.0, -2.0, math.nan], [-0.5, -1.0, -1.5]]),
        "mask": MASK,
        "advantages": torch.tensor([1.0, -1.0]),
        "counts": BatchCounts(torch.tensor(2), torch.tensor(5)),
        "max_completion_tokens": 4,
    }
    return RolloutTerms(**known | changed)


@pytest.mark.parametrize("name", OVER_ROLLOUTS)
def test_every_objective_over_rollouts_reads_its_terms(name: str) -> None:
    logps = terms().policy_token_logps.clone().requires_grad_()
    given: dict[str, Any] = {"policy_token_logps": logps}
    if name == "ppo":
        given["advantages"] = torch.tensor([[1.0, 0.5, 0.0], [-1.0, -0.5, 2.0]])
    if name == "grpo":
        given["ref_token_logps"] = torch.full((2, 3), -1.0)
    result = parse_objective({"name": name}).loss(terms(**given))
    assert result.loss.shape == (2,)
    torch.autograd.backward(result.loss.sum())
    assert logps.grad is not None
    assert logps.grad[0, 2] == 0.0
    assert logps.grad[0, 0] < 0.0  # an advantage above 0 raises the token's probability


@pytest.mark.parametrize("name", OVER_ROLLOUTS)
def test_what_the_trainer_keeps_is_no_argument_of_the_function(name: str) -> None:
    chosen = parse_objective({"name": name})
    assert isinstance(chosen.config, RolloutSettings)
    base = RolloutSettings if name == "ppo" else GroupSettings
    assert set(base.model_fields) <= chosen.objective.of_trainer
    assert chosen.objective.of_trainer <= set(type(chosen.config).model_fields)


def test_another_unit_is_refused() -> None:
    with pytest.raises(ShapeError, match="dpo counts a pair, the batch holds a rollout each"):
        parse_objective({"name": "dpo"}).loss(terms())


def test_rloo_worked_by_hand() -> None:
    """Ratio exp(-3 + 2.9) = 0.9048 for A = 1, exp(-3 + 2.5) = 0.6065 clipped to 0.8 for A = -1."""
    old = torch.tensor([[-1.0, -1.9, 0.0], [-0.5, -1.0, -1.0]])
    found = rloo_loss(
        terms().policy_token_logps, old, torch.tensor([1.0, -1.0]), MASK, terms().counts
    )
    torch.testing.assert_close(found.loss, torch.tensor([-math.exp(-0.1) / 2, 0.8 / 2]))
    assert found.clipped.tolist() == [False, True]


def test_rloo_on_policy_has_the_gradient_of_reinforce() -> None:
    logps = terms().policy_token_logps.clone().requires_grad_()
    advantages = torch.tensor([0.7, -0.4])
    torch.autograd.backward(rloo_loss(logps, None, advantages, MASK, terms().counts).loss.sum())
    expected = -advantages[:, None] * MASK / 2
    torch.testing.assert_close(logps.grad, expected)


def test_rloo_is_the_sum_over_tokens_of_grpo_on_policy() -> None:
    logps = [terms().policy_token_logps.clone().requires_grad_() for _ in range(2)]
    known = (terms().advantages, MASK, terms().counts)
    losses = (
        rloo_loss(logps[0], None, *known),
        grpo_loss(logps[1], None, *known, kl_weight=0.0, loss_aggregation="seq-mean-token-sum"),
    )
    for loss in losses:
        torch.autograd.backward(loss.loss.sum())
    torch.testing.assert_close(logps[0].grad, logps[1].grad)


def test_left_out_of_its_own_baseline() -> None:
    """Rewards 1, 0, 0.5: against the mean of the others 0.25, 0.75, 0.5."""
    found = group_advantages(
        torch.tensor([1.0, 0.0, 0.5, 2.0, 1.0], dtype=torch.float64),
        torch.tensor([0, 0, 0, 1, 1]),
        scale="leave_one_out",
    )
    expected = torch.tensor([0.75, -0.75, 0.0, 1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_an_unknown_reward_is_no_ones_baseline() -> None:
    found = group_advantages(
        torch.tensor([1.0, math.nan, 0.0]), torch.tensor([0, 0, 0]), scale="leave_one_out"
    )
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, -1.0]))


@pytest.mark.parametrize(
    ("section", "uses"),
    [
        ({"name": "grpo"}, True),
        ({"name": "grpo", "kl_weight": 0.0}, False),
        ({"name": "dapo"}, False),
        ({"name": "rloo"}, True),
        ({"name": "ppo", "reward_kl_weight": 0.0}, False),
    ],
)
def test_a_reference_is_used_where_a_weight_asks_for_it(
    section: dict[str, Any], uses: bool
) -> None:
    config = parse_objective(section).config
    assert isinstance(config, RolloutSettings)
    assert config.uses_reference is uses


def test_steps_of_a_generation() -> None:
    config = parse_objective({"name": "dapo", "num_iterations": 3, "num_mini_batches": 2}).config
    assert isinstance(config, RolloutSettings)
    assert config.steps_per_generation == 6
