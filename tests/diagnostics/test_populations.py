"""Groups of users and the policy of the worst-off: worked cases, theorems, refused input."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmalign.diagnostics.populations import (
    Populations,
    fit_populations,
    maxmin_policy,
    user_log_likelihoods,
    worst_group,
)
from mmalign.diagnostics.tabular import kl_divergence, tilted_policy
from mmalign.errors import ShapeError
from mmalign.testing.golden import t64

USERS = [user for user in range(8) for _ in range(6)]
REF = t64([0.4, 0.3, 0.2, 0.1]).log()
REWARDS = t64([[1.0, 0.2, -0.5, 0.3], [-0.4, 0.9, 0.6, 0.1]])


def opinions() -> Tensor:
    """Eight users, six pairs each; the first five want the opposite of the others."""
    source = torch.Generator().manual_seed(0)
    features = torch.randn(48, 3, generator=source, dtype=torch.float64)
    wanted = t64([[2.0, -1.0, 0.0] if user < 5 else [-2.0, 1.0, 0.0] for user in USERS])
    return features * (features * wanted).sum(-1, keepdim=True).sign()


START = t64([[0.1, 0.0, 0.0], [-0.1, 0.0, 0.1]])


def fit(rounds: int = 10, steps: int = 20, start: Tensor = START) -> Populations:
    return fit_populations(
        opinions(), USERS, start, learning_rate=0.1, steps_per_round=steps, max_rounds=rounds
    )


def test_em_worked_by_hand() -> None:
    """Each user takes the reward of its sign; one step: 0.5 + sigmoid(-0.5) = 0.877541."""
    found = fit_populations(
        t64([[1.0], [-1.0]]),
        [0, 1],
        t64([[0.5], [-0.5]]),
        learning_rate=1.0,
        steps_per_round=1,
        max_rounds=1,
    )
    moved = 0.5 + 1 / (1 + math.exp(0.5))
    assert_close(found.weights, t64([[moved], [-moved]]))
    assert found.assignment.tolist() == [0, 1]
    assert found.history == ((0, 1),)
    assert found.log_likelihoods[0, 0].item() == pytest.approx(-math.log1p(math.exp(-moved)))


def test_em_finds_the_groups() -> None:
    found = fit()
    first = int(found.assignment[0])
    assert found.assignment.tolist() == [first] * 5 + [1 - first] * 3
    assert found.history[-1] == found.history[-2]


def test_small_steps_never_lower_the_likelihood() -> None:
    best = [fit(rounds, steps=2).log_likelihoods.max(-1).values.sum() for rounds in range(1, 6)]
    assert all(later >= earlier for earlier, later in pairwise(best))


def test_permuting_the_groups_permutes_the_result() -> None:
    there, back = fit(), fit(start=START.flip(0))
    assert_close(back.weights, there.weights.flip(0))
    assert back.assignment.tolist() == [1 - group for group in there.assignment.tolist()]


def test_from_equal_weights_all_users_start_in_the_first_group_and_an_empty_one_waits() -> None:
    start = t64([[0.1, 0.0, 0.0]] * 2)
    found = fit(rounds=1, start=start)
    assert found.history == ((0,) * 8,)
    assert_close(found.weights[1], start[1], rtol=0, atol=0)
    assert (found.weights[0] - start[0]).abs().max() > 0.1


def test_a_users_log_likelihood_is_the_sum_over_its_pairs() -> None:
    found = user_log_likelihoods(
        t64([[1.0], [2.0], [0.0]]), torch.tensor([1, 1, 0]), t64([[1.0], [0.0]])
    )
    by_hand = -math.log1p(math.exp(-1)) - math.log1p(math.exp(-2))
    assert_close(found, t64([[-math.log(2), -math.log(2)], [by_hand, -2 * math.log(2)]]))


def test_the_worst_group_has_the_smallest_mean_not_the_smallest_reward() -> None:
    """Means 1 and 0.5, though group 0 has the sample of -4."""
    rewards = t64([[-4.0, 6.0], [0.0, 1.0]])
    found = worst_group(rewards)
    assert found.group == 1
    assert found.utilities.tolist() == [1.0, 0.5]
    assert found.rewards.tolist() == [0.0, 1.0]
    assert worst_group(rewards + 3).group == 1
    assert worst_group(rewards.flip(0)).group == 0
    assert worst_group(t64([[1.0], [1.0]])).group == 0


def test_maxmin_worked_by_hand() -> None:
    """Mirrored rewards over an even reference: half each, the even policy, values 1/2."""
    found = maxmin_policy(t64([0.5, 0.5]).log(), t64([[1.0, 0.0], [0.0, 1.0]]), beta=1.0)
    assert found.weight == pytest.approx(0.5)
    assert_close(found.logprobs.exp(), t64([0.5, 0.5]))
    assert_close(found.values, t64([0.5, 0.5]))


def test_equal_rewards_give_the_ordinary_optimum() -> None:
    found = maxmin_policy(REF, REWARDS[:1].expand(2, -1), beta=0.5)
    assert_close(found.logprobs, tilted_policy(REF, REWARDS[0], beta=0.5))


def test_an_inner_weight_serves_both_groups_alike_and_no_mixture_does_better() -> None:
    found = maxmin_policy(REF, REWARDS, beta=0.5)
    assert 0 < found.weight < 1
    assert found.values[0].item() == pytest.approx(found.values[1].item(), rel=1e-12)
    for weight in torch.linspace(0, 1, 101, dtype=torch.float64).tolist():
        policy = tilted_policy(REF, weight * REWARDS[0] + (1 - weight) * REWARDS[1], beta=0.5)
        values = (policy.exp() * REWARDS).sum(-1) - 0.5 * kl_divergence(policy, REF)
        assert values.min() <= found.values.min() + 1e-12


def test_a_group_that_is_worse_off_everywhere_decides_alone() -> None:
    worse = torch.stack([REWARDS[1] - 1, REWARDS[1] + REWARDS[0].abs()])
    found = maxmin_policy(REF, worse, beta=0.5)
    assert found.weight == 1
    assert_close(found.logprobs, tilted_policy(REF, worse[0], beta=0.5))
    assert maxmin_policy(REF, worse.flip(0), beta=0.5).weight == 0


def test_permuting_the_groups_permutes_weight_and_values() -> None:
    there, back = (
        maxmin_policy(REF, REWARDS, beta=0.5),
        maxmin_policy(REF, REWARDS.flip(0), beta=0.5),
    )
    assert back.weight == pytest.approx(1 - there.weight, rel=1e-9)
    assert_close(back.values, there.values.flip(0))


def test_wrong_input_is_refused() -> None:
    pairs, start = t64([[1.0], [2.0], [3.0]]), t64([[0.1], [0.2]])
    with pytest.raises(ShapeError, match="1 groups for 2 users"):
        fit_populations(pairs, [0, 1, 1], start[:1], learning_rate=0.1, steps_per_round=1)
    with pytest.raises(ShapeError, match="2 groups for 1 users"):
        fit_populations(pairs, [0, 0, 0], start, learning_rate=0.1, steps_per_round=1)
    with pytest.raises(ShapeError, match=r"found the user ids \[0, 2\]"):
        fit_populations(pairs, [0, 2, 2], start, learning_rate=0.1, steps_per_round=1)
    with pytest.raises(ShapeError, match=r"\[3, 1\], 2 ids"):
        fit_populations(pairs, [0, 1], start, learning_rate=0.1, steps_per_round=1)
    with pytest.raises(ShapeError, match=r"differences\[1, 0\] is nan"):
        fit_populations(
            t64([[1.0], [math.nan], [3.0]]), [0, 1, 1], start, learning_rate=0.1, steps_per_round=1
        )
    with pytest.raises(ShapeError, match=r"\[K, B\], found \[2\]"):
        worst_group(t64([1.0, 2.0]))
    with pytest.raises(ShapeError, match=r"sample_rewards\[0, 0\] is nan"):
        worst_group(t64([[math.nan]]))
    with pytest.raises(ShapeError, match=r"rewards \[2, A\], found \[4\] and \[3, 4\]"):
        maxmin_policy(REF, REWARDS[[0, 1, 1]], beta=0.5)
    with pytest.raises(ShapeError, match="beta is 0"):
        maxmin_policy(REF, REWARDS, beta=0)
