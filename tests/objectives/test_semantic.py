"""Sem-DPO: worked cases, identities and limits, refused input."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss
from mmalign.objectives.semantic import sem_dpo_loss, semantic_distances, semantic_weights
from mmalign.testing.golden import t64


def normal(seed: int, *shape: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


LOGPS = [normal(seed, 3) for seed in range(4)]


def test_distances_worked_by_hand() -> None:
    """Cosines 1, 0, -1 and (3 * 4) / 5 / 4 = 0.6: distances 0, 1, 2 and 0.4."""
    prompts = t64([[1, 0], [1, 0], [1, 0], [3, 4]])
    chosen = t64([[2, 0], [0, 3], [-1, 0], [4, 0]])
    assert_close(semantic_distances(prompts, chosen), t64([0.0, 1.0, 2.0, 0.4]))


def test_weights_worked_by_hand() -> None:
    """exp(-2 * 0.5) = e^-1."""
    assert semantic_weights(t64([0.5]), alpha=2.0).item() == pytest.approx(math.exp(-1), rel=1e-12)


def test_loss_worked_by_hand() -> None:
    """Margin 0.1 * (-1 + 2) - 0 = 0.1 at the weight 0.5: half of log(1 + e^-0.1)."""
    logps = [t64([number]) for number in (-1.0, -3.0, -2.0, -3.0)]
    result = sem_dpo_loss(*[*logps, t64([0.5])], beta=0.1)
    assert result.loss.item() == pytest.approx(0.5 * math.log1p(math.exp(-0.1)), rel=1e-12)
    assert result.chosen_rewards.item() == pytest.approx(0.1)


def test_alpha_0_is_dpo() -> None:
    weights = semantic_weights(t64([0.0, 0.7, 2.0]), alpha=0.0)
    found = sem_dpo_loss(*[*LOGPS, weights], beta=0.3)
    assert_close(found.loss, dpo_loss(*LOGPS, beta=0.3).loss, rtol=0, atol=0)


def test_an_unchanged_meaning_has_the_full_weight() -> None:
    embeddings = normal(7, 3, 6)
    weights = semantic_weights(semantic_distances(embeddings, embeddings), alpha=5.0)
    assert_close(weights, torch.ones(3, dtype=torch.float64))
    assert (weights <= 1).all()


def test_weights_fall_with_the_distance_and_stay_positive() -> None:
    weights = semantic_weights(torch.linspace(0, 2, 9, dtype=torch.float64), alpha=3.0)
    assert (weights.diff() < 0).all()
    assert weights.min() > 0
    assert weights.max() == 1


def test_length_of_an_embedding_does_not_matter() -> None:
    prompts, chosen = normal(7, 3, 6), normal(8, 3, 6)
    scaled = semantic_distances(1e-12 * prompts, 1e6 * chosen)
    assert_close(scaled, semantic_distances(prompts, chosen))


def test_gradient_is_the_weight_times_that_of_dpo() -> None:
    weights = t64([0.2, 0.5, 1.0])
    policy = [values.clone().requires_grad_() for values in LOGPS[:2]]
    weighted, plain = (
        torch.autograd.grad(loss.sum(), policy)
        for loss in (
            sem_dpo_loss(*[*policy, *LOGPS[2:], weights], beta=0.3).loss,
            dpo_loss(*[*policy, *LOGPS[2:]], beta=0.3).loss,
        )
    )
    for found, expected in zip(weighted, plain, strict=True):
        assert_close(found, weights * expected)


def test_no_gradient_reaches_weights_or_embeddings() -> None:
    embeddings = normal(7, 3, 6).requires_grad_()
    distances = semantic_distances(embeddings, normal(8, 3, 6))
    assert not distances.requires_grad
    weights = t64([0.2, 0.5, 1.0], requires_grad=True)
    policy = LOGPS[0].clone().requires_grad_()
    loss = sem_dpo_loss(*[policy, *LOGPS[1:], weights], beta=0.3).loss.sum()
    grads = torch.autograd.grad(loss, [policy, weights], allow_unused=True)
    assert grads[1] is None


def test_a_pair_twice_at_half_the_weight_counts_as_once() -> None:
    one = [values[:1] for values in LOGPS]
    twice = [values.repeat(2) for values in one]
    whole = sem_dpo_loss(*[*one, t64([0.8])], beta=0.3).loss.sum()
    assert_close(sem_dpo_loss(*[*twice, t64([0.4, 0.4])], beta=0.3).loss.sum(), whole)


def test_normalised_weights_average_to_1_in_the_same_ratios() -> None:
    distances = t64([0.1, 0.4, 0.9])
    plain = semantic_weights(distances, alpha=2.0)
    normalised = semantic_weights(distances, alpha=2.0, normalisation="mean_one")
    assert normalised.mean().item() == pytest.approx(1, rel=1e-12)
    assert_close(normalised / normalised[0], plain / plain[0])


def test_embeddings_without_a_direction_are_refused_by_row() -> None:
    good, zero, broken = normal(7, 2, 3), normal(8, 2, 3), normal(9, 2, 3)
    zero[1] = 0
    broken[1, 2] = math.nan
    with pytest.raises(ShapeError, match=r"chosen_embeddings\[1\] is all zeros"):
        semantic_distances(good, zero)
    with pytest.raises(ShapeError, match=r"prompt_embeddings\[1, 2\] is nan"):
        semantic_distances(broken, good)


def test_embeddings_of_two_encoders_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"prompt_embeddings \[2, 3\], chosen_embeddings \[2, 4\]"):
        semantic_distances(normal(7, 2, 3), normal(8, 2, 4))
    with pytest.raises(ShapeError, match=r"expected \[B, D\], found prompt_embeddings \[3\]"):
        semantic_distances(normal(7, 3), normal(8, 3))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"alpha is -1\.0, expected a finite number"):
        semantic_weights(t64([0.5]), alpha=-1.0)
    with pytest.raises(ShapeError, match="normalisation is 'sum', expected 'none' or 'mean_one'"):
        semantic_weights(t64([0.5]), alpha=1.0, normalisation="sum")  # type: ignore[arg-type]  # refused
    with pytest.raises(ShapeError, match=r"distances\[0\] is nan"):
        semantic_weights(t64([math.nan]), alpha=1.0)


def test_one_weight_for_the_whole_batch_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"weights \[1\]"):
        sem_dpo_loss(*[*LOGPS, t64([1.0])], beta=0.1)
