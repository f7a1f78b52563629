"""3D-Properties: gradients of probabilities, the toy model, flags."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mmalign.diagnostics.three_d import (
    Evaluation,
    Role,
    ThreeDFlags,
    dispersion,
    dpo_gradient_ratios,
    off_policy_side,
    probability_gradients,
    three_d_flags,
)
from mmalign.errors import ShapeError
from mmalign.objectives import dpo_loss
from mmalign.objectives.themis import reward_ranking_loss
from mmalign.testing.golden import t64

CHOSEN: Role = "chosen"
REJECTED: Role = "rejected"
UNSEEN: Role = "unseen"
ROLES = [CHOSEN] * 4 + [REJECTED] * 4 + [UNSEEN] * 2


def test_worked_by_hand() -> None:
    """pi+ = 1/2 and pi- = 1/8: the rejected gradient is four times the chosen one.

    A gradient of -0.3 with respect to log pi+ is -0.3 / (1/2) = -0.6 with respect to pi+.
    """
    found = dpo_gradient_ratios([math.log(1 / 2)], [math.log(1 / 8)])
    assert found.ratios.tolist() == pytest.approx([-4.0])
    assert found.log_abs.tolist() == pytest.approx([math.log(4)])
    assert probability_gradients([-0.3], [math.log(1 / 2)]).tolist() == pytest.approx([-0.6])


def test_dpo_s_gradients_have_the_ratio_of_the_probabilities() -> None:
    chosen, rejected = t64([-1.0, -4.0], requires_grad=True), t64([-3.0, -2.0], requires_grad=True)
    result = dpo_loss(chosen, rejected, t64([-2.0, -2.0]), t64([-2.5, -1.0]), beta=0.1)
    up, down = torch.autograd.grad(result.loss.sum(), (chosen, rejected))
    by_probability = [
        probability_gradients(grad.numpy(), logps.detach().numpy())
        for grad, logps in ((up, chosen), (down, rejected))
    ]
    expected = dpo_gradient_ratios(chosen.detach().numpy(), rejected.detach().numpy())
    np.testing.assert_allclose(by_probability[1] / by_probability[0], expected.ratios, rtol=1e-12)


def test_a_reward_model_pushes_both_sides_alike() -> None:
    chosen, rejected = t64([1.0, -2.0], requires_grad=True), t64([0.5, 3.0], requires_grad=True)
    total = reward_ranking_loss(chosen, rejected).sum()
    up, down = torch.autograd.grad(total, (chosen, rejected))
    assert_close(up, -down, rtol=0, atol=0)


def test_the_chosen_side_stops_learning_where_the_rejected_one_vanishes() -> None:
    """The weight falls like pi-^beta: from e^-20 to e^-220 by e^-20 at beta 0.1."""

    def gradient(rejected_logp: float) -> float:
        chosen = t64([-2.0], requires_grad=True)
        result = dpo_loss(chosen, t64([rejected_logp]), t64([-2.0]), t64([-2.0]), beta=0.1)
        (grad,) = torch.autograd.grad(result.loss.sum(), chosen)
        return float(probability_gradients(grad.numpy(), chosen.detach().numpy())[0])

    assert gradient(-220.0) / gradient(-120.0) == pytest.approx(math.exp(-10), rel=1e-3)
    assert abs(gradient(-220.0)) < 1e-8


def test_long_responses_have_a_finite_logarithm() -> None:
    found = dpo_gradient_ratios([-100.0], [-2000.0])
    assert found.ratios.tolist() == [-math.inf]
    assert found.log_abs.tolist() == [1900.0]
    assert probability_gradients([0.0, -1.0], [-2000.0, -2000.0]).tolist() == [0.0, -math.inf]


def test_dispersion_worked_by_hand() -> None:
    """Chosen 0.5 to 0.3, rejected 0.2 and 0.2 to 0.05 each, unseen 0.1 to 0.6."""
    roles: list[Role] = ["chosen", "rejected", "rejected", "unseen"]
    found = dispersion([0.5, 0.2, 0.2, 0.1], [0.3, 0.05, 0.05, 0.6], roles)
    assert found.mean_change == pytest.approx((-0.2, -0.15, 0.5))
    assert found.unseen_mass == pytest.approx((0.1, 0.6))


def test_what_one_role_loses_the_others_win() -> None:
    source = np.random.default_rng(0)
    initial, final = source.dirichlet(np.ones(10), size=2)
    change = dispersion(initial, final, ROLES).mean_change
    assert change.chosen is not None
    assert change.rejected is not None
    assert change.unseen is not None
    assert abs(4 * change.chosen + 4 * change.rejected + 2 * change.unseen) < 1e-12


def test_a_role_that_no_response_has_is_told_as_missing() -> None:
    found = dispersion([0.5, 0.5], [0.6, 0.4], ["chosen", "rejected"])
    assert found.mean_change.unseen is None
    assert found.unseen_mass == (0.0, 0.0)


def trained_toy(chosen_start: float, rejected_start: float) -> tuple[Tensor, Tensor]:
    """Probabilities [4, 10] of a small network before and after DPO, one pair for each prompt.

    Response i is chosen for prompt i and response i + 4 rejected; the last two are in no pair.
    """
    torch.manual_seed(0)
    start = torch.zeros(4, 10, dtype=torch.float64)
    start[:, :4], start[:, 4:8] = chosen_start, rejected_start
    start[:, 8:] = (1 - 4 * chosen_start - 4 * rejected_start) / 2
    network = nn.Sequential(
        nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
    ).double()
    prompts, rows = torch.eye(4, dtype=torch.float64), torch.arange(4)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        (-(start * network(prompts).log_softmax(-1)).sum(-1).mean()).backward()
        optimizer.step()
    reference = network(prompts).log_softmax(-1).detach()
    ref_logps = (reference[rows, rows], reference[rows, rows + 4])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(100):
        optimizer.zero_grad()
        policy = network(prompts).log_softmax(-1)
        logps = (policy[rows, rows], policy[rows, rows + 4])
        loss = dpo_loss(*logps, *ref_logps, beta=0.1).loss.mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return reference.exp(), network(prompts).softmax(-1).detach()


def test_dpo_on_off_policy_pairs_feeds_the_unseen_responses() -> None:
    own = torch.arange(4)
    before, after = trained_toy(0.12, 0.12)
    assert after[own, own].mean() > 0.2 > before[own, own].mean()
    kept = dispersion(before.mean(0).numpy(), after.mean(0).numpy(), ROLES)
    assert kept.unseen_mass[1] < kept.unseen_mass[0] < 0.1

    before, after = trained_toy(0.02, 0.02)
    assert after[own, own].mean() < before[own, own].mean()
    assert after[own, own + 4].mean() < 1e-3
    lost = dispersion(before.mean(0).numpy(), after.mean(0).numpy(), ROLES)
    assert lost.unseen_mass[1] > lost.unseen_mass[0] + 0.1


START = Evaluation(loss=0.69, chosen_logp=-1.0, rejected_logp=-1.0, unseen_logp=-2.0)


def test_a_rejected_side_that_falls_far_further_is_a_drastic_drop() -> None:
    def flags(chosen_logp: float, rejected_logp: float) -> ThreeDFlags:
        return three_d_flags([START, Evaluation(0.6, chosen_logp, rejected_logp)])

    assert flags(-1.1, -1.4).drastic_drop
    assert not flags(-1.1, -1.2).drastic_drop
    assert flags(-0.9, -1.4).drastic_drop
    assert not flags(-0.9, -0.5).drastic_drop


def test_a_chosen_side_that_falls_three_times_under_a_falling_loss_is_degradation() -> None:
    falling = [Evaluation(0.6 - 0.1 * i, -1.1 - 0.1 * i, -1.5) for i in range(3)]
    assert three_d_flags([START, *falling]).degradation
    assert not three_d_flags([START, *falling[:2]]).degradation
    risen = Evaluation(0.3, -1.2, -1.5)
    assert not three_d_flags([START, *falling, risen]).degradation
    worse = Evaluation(0.9, -1.9, -1.5)
    assert not three_d_flags([START, *falling, worse]).degradation


def test_unseen_responses_that_rise_while_the_chosen_fall_are_dispersion() -> None:
    assert three_d_flags([START, Evaluation(0.6, -1.1, -1.2, unseen_logp=-1.9)]).dispersion
    assert three_d_flags([START, Evaluation(0.6, -0.9, -1.2, unseen_logp=-1.9)]).dispersion is False
    assert three_d_flags([START, Evaluation(0.6, -1.1, -1.2)]).dispersion is None
    first = Evaluation(0.69, -1.0, -1.0, entropy=1.0)
    assert three_d_flags([first, Evaluation(0.6, -1.1, -1.2, entropy=1.5)]).dispersion


@pytest.mark.parametrize(("gap", "side"), [(-0.4, "chosen"), (0.0, None), (0.6, "rejected")])
def test_the_side_that_the_reference_would_not_write_is_named(gap: float, side: str | None) -> None:
    assert off_policy_side([-1.0 + gap, -2.0 + gap], [-1.0, -2.0]) == side


def test_broken_numbers_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"policy_chosen_logps \[2\], policy_rejected_logps \[1\]"):
        dpo_gradient_ratios([-1.0, -2.0], [-1.0])
    with pytest.raises(ShapeError, match=r"logps\[1\] is NaN"):
        probability_gradients([0.1, 0.2], [-1.0, math.nan])
    with pytest.raises(ShapeError, match=r"final_probs add up to 1\.1"):
        dispersion([0.5, 0.5], [0.5, 0.6], ["chosen", "rejected"])
    with pytest.raises(ShapeError, match="1 roles for 2 responses"):
        dispersion([0.5, 0.5], [0.5, 0.5], ["chosen"])
    with pytest.raises(ShapeError, match="role 'other'"):
        dispersion([0.5, 0.5], [0.5, 0.5], ["chosen", "other"])  # type: ignore[list-item]  # on purpose
    with pytest.raises(ShapeError, match="1 evaluations, expected two"):
        three_d_flags([START])
    with pytest.raises(ShapeError, match=r"evaluations\[1\]\.loss is NaN"):
        three_d_flags([START, Evaluation(math.nan, -1.0, -1.0)])
