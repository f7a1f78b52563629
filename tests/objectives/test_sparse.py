"""SparsePO: masks of tokens, the loss under them, its special cases, refused input."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss, forward_kl, masked_sum
from mmalign.objectives.kl import kl_of_logprobs
from mmalign.objectives.sparse import (
    activation_mask,
    learned_mask,
    mask_sparsity,
    sparsepo_loss,
)
from mmalign.testing.golden import t64

SIDES = ("chosen", "rejected")
B, T, V, L, D = 2, 4, 6, 3, 5


def random(seed: int, *shape: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=source, dtype=torch.float64)


def batch(**changed: Any) -> dict[str, Any]:
    """Random arguments of `sparsepo_loss` in which all weights are 1."""
    values: dict[str, Any] = {"beta": 0.5}
    for seed, side in enumerate(SIDES):
        values |= {
            f"policy_{side}_token_logps": -2 * random(10 + seed, B, T),
            f"ref_{side}_token_logps": -2 * random(20 + seed, B, T),
            f"{side}_token_kl": random(30 + seed, B, T),
            f"{side}_mask": t64([[0, 1, 1, 1], [1, 1, 0, 0]]),
            f"{side}_reward_weights": torch.ones(B, T, dtype=torch.float64),
            f"{side}_kl_weights": torch.ones(B, T, dtype=torch.float64),
        }
    return values | changed


def scaled_weights(given: dict[str, Any], factor: float, *kinds: str) -> dict[str, Any]:
    names = [f"{side}_{kind}_weights" for side in SIDES for kind in kinds]
    return given | {name: factor * given[name] for name in names}


def test_worked_by_hand() -> None:
    """u = 2 * 1 - 1 * 1 = 1, d = 0.5 * 0.6 - 0.5 * 0.2 = 0.2, L1 = 0.1 * 3 + 0.2 * 1 = 0.5."""
    result = sparsepo_loss(
        policy_chosen_token_logps=t64([[-1.0, -9.0]]),
        policy_rejected_token_logps=t64([[-2.0]]),
        ref_chosen_token_logps=t64([[-2.0, -5.0]]),
        ref_rejected_token_logps=t64([[-3.0]]),
        chosen_token_kl=t64([[0.2, 7.0]]),
        rejected_token_kl=t64([[0.6]]),
        chosen_mask=t64([[1, 1]]),
        rejected_mask=t64([[1]]),
        chosen_reward_weights=t64([[2.0, 0.0]]),
        rejected_reward_weights=t64([[1.0]]),
        chosen_kl_weights=t64([[0.5, 0.0]]),
        rejected_kl_weights=t64([[0.5]]),
        beta=0.5,
        reward_l1=0.1,
        kl_l1=0.2,
    )
    by_hand = math.log1p(math.exp(-0.5 * (1 - 0.2))) + 0.5
    assert result.loss.item() == pytest.approx(by_hand, rel=1e-12)
    assert result.metrics["reward_margin"].item() == pytest.approx(1.0)
    assert result.metrics["kl_gap"].item() == pytest.approx(0.2)
    assert result.chosen_rewards.item() == pytest.approx(0.5 * (2 + 0.1))


def test_reward_weights_of_1_without_kl_are_dpo() -> None:
    given = scaled_weights(batch(), 0.0, "kl")
    sums = [
        masked_sum(given[f"{model}_{side}_token_logps"], given[f"{side}_mask"])
        for model in ("policy", "ref")
        for side in SIDES
    ]
    expected = dpo_loss(*sums, beta=0.5).loss
    assert_close(sparsepo_loss(**given).loss, expected, rtol=1e-12, atol=0)


def test_weights_of_1_charge_the_kl_of_the_rejected_side_as_tdpo1_does() -> None:
    given = batch()
    result = sparsepo_loss(**given)
    kl = {side: masked_sum(given[f"{side}_token_kl"], given[f"{side}_mask"]) for side in SIDES}
    plain = sparsepo_loss(**scaled_weights(given, 0.0, "kl"))
    margins = result.chosen_rewards - result.rejected_rewards
    expected = plain.chosen_rewards - plain.rejected_rewards - 0.5 * (kl["rejected"] - kl["chosen"])
    assert_close(margins, expected, rtol=1e-12, atol=1e-15)


def test_log_2_where_policy_equals_reference_whatever_the_weights() -> None:
    given = scaled_weights(batch(), 1.7, "reward")
    for side in SIDES:
        given[f"policy_{side}_token_logps"] = given[f"ref_{side}_token_logps"]
        given[f"{side}_token_kl"] = torch.zeros(B, T, dtype=torch.float64)
    loss = sparsepo_loss(**given).loss
    assert_close(loss, torch.full_like(loss, math.log(2)), rtol=1e-12, atol=0)


def test_scaling_beta_equals_scaling_both_weights() -> None:
    given = batch()
    stronger = sparsepo_loss(**(given | {"beta": 1.5})).loss
    heavier = sparsepo_loss(**scaled_weights(given, 3.0, "reward", "kl")).loss
    assert_close(heavier, stronger, rtol=1e-12, atol=0)


def test_shared_weights_are_charged_once() -> None:
    given = batch(reward_l1=0.2, kl_l1=0.2)
    free = sparsepo_loss(**batch()).loss
    tokens = given["chosen_mask"].sum(-1) + given["rejected_mask"].sum(-1)
    once = sparsepo_loss(**given, shared_weights=True).loss
    twice = sparsepo_loss(**given).loss
    assert_close(once - free, 0.2 * tokens)
    assert_close(twice - free, 0.4 * tokens)


def test_a_token_whose_weights_are_0_gets_no_gradient() -> None:
    given = batch()
    policy = given["policy_chosen_token_logps"].requires_grad_()
    kl = given["chosen_token_kl"].requires_grad_()
    for kind in ("reward", "kl"):
        given[f"chosen_{kind}_weights"] = t64([[1, 1, 0, 1], [1, 0, 1, 1]])
    grads = torch.autograd.grad(sparsepo_loss(**given).loss.sum(), (policy, kl))
    for grad in grads:
        assert grad[0, 2] == grad[1, 1] == 0
        assert grad[0, 1] < 0


def test_nan_in_the_padding_reaches_neither_loss_nor_any_gradient() -> None:
    given = batch()
    outside = given["chosen_mask"] == 0
    names = [
        "policy_chosen_token_logps",
        *(f"chosen_{kind}" for kind in ("token_kl", "reward_weights", "kl_weights")),
    ]
    for name in names:
        given[name] = given[name].masked_fill(outside, math.nan).requires_grad_()
    result = sparsepo_loss(**given, reward_l1=0.1)
    assert_close(result.loss, sparsepo_loss(**batch(), reward_l1=0.1).loss, rtol=0, atol=0)
    for grad in torch.autograd.grad(result.loss.sum(), [given[name] for name in names]):
        assert grad[outside].abs().max() == 0
        assert grad.isfinite().all()


def test_a_negative_price_and_a_mask_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"reward_l1 is -0\.1 and kl_l1 is 0\.0"):
        sparsepo_loss(**batch(), reward_l1=-0.1)
    with pytest.raises(ShapeError, match=r"chosen_mask \[2, 1\]"):
        sparsepo_loss(**batch(chosen_mask=torch.ones(2, 1)))
    with pytest.raises(ShapeError, match=r"beta is -1\.0"):
        sparsepo_loss(**batch(beta=-1.0))


def test_activation_mask_worked_by_hand() -> None:
    """Feature means 1, 3, 5 and 4, 4, 2 scale to 0, 1/2, 1 and 1, 1, 0; their mean is the mask."""
    first = t64([[[0.0, 2.0], [3.0, 3.0], [5.0, 5.0], [99.0, 99.0]]])
    second = t64([[[4.0], [4.0], [2.0], [-99.0]]])
    mask = activation_mask([[first], [second]], torch.tensor([[1, 1, 1, 0]]))
    assert_close(mask, t64([[0.5, 0.75, 0.5, 0.0]]), rtol=1e-12, atol=0)


def test_tensors_are_averaged_inside_their_group_first() -> None:
    """Scaled 0, 1 twice in one group and 1, 0 in the other: 1/2 and 1/2, not 1/3 and 2/3."""
    rising, falling = t64([[[0.0], [1.0]]]), t64([[[1.0], [0.0]]])
    mask = activation_mask([[rising, rising], [falling]], torch.ones(1, 2))
    assert mask.tolist() == [[0.5, 0.5]]


def test_activation_masks_lie_between_0_and_1_and_carry_no_gradient() -> None:
    activations = random(1, B, T, D).requires_grad_()
    inside = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0]])
    mask = activation_mask([[activations]], inside)
    assert not mask.requires_grad
    assert mask.min() == 0
    assert mask.max() == 1
    assert mask[inside == 0].abs().max() == 0


def test_a_response_of_one_token_keeps_it() -> None:
    mask = activation_mask([[random(2, 1, 3, D)]], torch.tensor([[0, 1, 0]]))
    assert mask.tolist() == [[0.0, 1.0, 0.0]]


def test_activations_are_refused_without_a_group_or_with_other_positions() -> None:
    with pytest.raises(ShapeError, match="found none or an empty one"):
        activation_mask([[]], torch.ones(1, 2))
    with pytest.raises(ShapeError, match=r"activations \[1, 3\], mask \[1, 2\]"):
        activation_mask([[random(3, 1, 3, D)]], torch.ones(1, 2))


def network(**changed: Tensor) -> dict[str, Any]:
    values: dict[str, Any] = {
        "norm_weight": torch.ones(D, dtype=torch.float64),
        "norm_bias": torch.zeros(D, dtype=torch.float64),
        "layer_weights": random(4, L, D) - 0.5,
        "layer_biases": torch.zeros(L, dtype=torch.float64),
        "mixer": random(5, L) - 0.5,
    }
    return values | changed


def test_learned_mask_worked_by_hand() -> None:
    """(1, 3) is normalised to (-1, 1); relu(-1 + 2 + 0.5) = 1.5 and relu(-2) = 0; 2 * 1.5 = 3."""
    mask = learned_mask(
        t64([[[[1.0, 3.0], [1.0, 3.0]]]]),
        t64([1.0, 1.0]),
        t64([0.0, 0.0]),
        t64([[1.0, 2.0], [2.0, 0.0]]),
        t64([0.5, 0.0]),
        t64([2.0, -7.0]),
        eps=0.0,
    )
    assert mask.item() == pytest.approx(3.0, rel=1e-12)


def test_learned_masks_are_never_negative_and_train_the_network_alone() -> None:
    hidden = random(6, B, T, L, D).requires_grad_()
    parameters = network(mixer=t64([1.0, -1.0, 0.5]).requires_grad_())
    mask = learned_mask(hidden, **parameters)
    assert mask.min() >= 0
    assert mask.max() > 0
    leaves = (hidden, parameters["mixer"])
    to_hidden, to_mixer = torch.autograd.grad(mask.sum(), leaves, allow_unused=True)
    assert to_hidden is None
    assert to_mixer.abs().max() > 0


def test_parameters_of_another_model_are_refused_by_name() -> None:
    with pytest.raises(ShapeError, match=r"mixer is \[2\], expected \[3\] for ref_hidden"):
        learned_mask(random(6, B, T, L, D), **network(mixer=torch.ones(2)))


def test_sparsity_counts_zeros_of_the_whole_batch_inside_the_mask() -> None:
    weights, mask = t64([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]]), t64([[0, 1, 1], [1, 1, 0]])
    assert mask_sparsity(weights, mask).item() == pytest.approx(2 / 4)
    assert mask_sparsity(weights, torch.zeros(2, 3)).item() == 0


def test_kl_of_normalised_log_probabilities_is_the_forward_kl() -> None:
    policy, ref = (random(seed, B, T, V).log_softmax(-1) for seed in (7, 8))
    kl = kl_of_logprobs(policy, ref)
    assert_close(kl, forward_kl(policy, ref), rtol=1e-12, atol=1e-15)
    assert kl.min() > 0
    assert kl_of_logprobs(ref, ref).abs().max() == 0


def test_kl_has_the_reference_as_its_gradient_and_no_nan_where_the_reference_is_0() -> None:
    policy = t64([[math.log(0.5), math.log(0.5)]], requires_grad=True)
    kl = kl_of_logprobs(policy, t64([[0.0, -math.inf]]))
    assert kl.item() == pytest.approx(math.log(2), rel=1e-12)
    assert torch.autograd.grad(kl.sum(), policy)[0].tolist() == [[-1.0, 0.0]]


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"policy_logprobs \[1, 3\], ref_logprobs \[1, 2\]"):
        kl_of_logprobs(t64([[0.0, 0.0, 0.0]]), t64([[0.0, 0.0]]))
