"""Several rewards in one number: worked cases, identities and limits, refused input."""

import math

import numpy as np
import pytest

from mmalign.errors import ShapeError
from mmalign.rewards.multi_objective import (
    Calibration,
    calibrate,
    direction_at,
    kl_shaped_rewards,
    orchestrated_rewards,
    prompt_weights,
    scalarised_rewards,
    target_weights,
    unit_direction,
)

PLAIN = Calibration((0.0, 0.0), (1.0, 1.0))
REWARDS = np.array([[0.3, -1.2], [2.0, 1.5], [-0.4, 0.1]])


def test_scalarised_rewards_worked_by_hand() -> None:
    """At 60 degrees: 80 / 2 + 40 * sqrt(3) / 2 = 74.641."""
    scores = scalarised_rewards([[80.0, 40.0]], direction_at(60.0))
    assert scores[0] == pytest.approx(40 + 20 * math.sqrt(3), rel=1e-12)


@pytest.mark.parametrize("angle", [-45.0, -10.47, 0.0, 20.0, 45.0])
def test_a_direction_has_length_1_and_its_integers_nearly_so(angle: float) -> None:
    direction = direction_at(angle)
    assert math.hypot(*direction) == pytest.approx(1, rel=1e-12)
    weights = prompt_weights(direction)
    assert sum(weight**2 for weight in weights) == pytest.approx(10_000, rel=0.015)
    assert weights.verbosity * angle >= 0


def test_prompt_weights_worked_by_hand() -> None:
    """cos 45 = 0.7071 and sin -45 = -0.7071 read 71 and -71."""
    assert prompt_weights(direction_at(-45.0)) == (71, -71)


def test_0_degrees_is_helpfulness_alone_and_90_verbosity() -> None:
    rewards = [[7.0, 1.0], [2.0, 9.0]]
    assert scalarised_rewards(rewards, direction_at(0.0)) == pytest.approx([7.0, 2.0])
    assert scalarised_rewards(rewards, direction_at(90.0)) == pytest.approx([1.0, 9.0])


def test_a_direction_of_another_length_is_shortened_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="has length 5"):
        assert unit_direction([3.0, -4.0]) == pytest.approx([0.6, -0.8])
    assert unit_direction([0.6, -0.8]) == pytest.approx([0.6, -0.8])


def test_target_weights_worked_by_hand() -> None:
    """z = (2 - 1) / 1 and (6 - 5) / 2; over 0.5 they are 2 and 1: odds e."""
    found = target_weights([[2.0, 6.0]], Calibration((1.0, 5.0), (1.0, 2.0)), temperature=0.5)
    assert found[0, 0] / found[0, 1] == pytest.approx(math.e, rel=1e-12)
    assert found.sum() == pytest.approx(1, rel=1e-12)


def test_temperature_runs_from_one_hot_to_uniform() -> None:
    hot = target_weights(REWARDS, PLAIN, temperature=1e12)
    assert hot == pytest.approx(np.full((3, 2), 0.5))
    cold = target_weights(REWARDS, PLAIN, temperature=1e-3)
    assert cold == pytest.approx(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), abs=1e-12)


def test_a_reward_model_may_be_rescaled_if_it_is_calibrated_again() -> None:
    rescaled = REWARDS * [1.0, 30.0] + [0.0, 500.0]
    plain = target_weights(REWARDS, calibrate(REWARDS))
    assert target_weights(rescaled, calibrate(rescaled)) == pytest.approx(plain)
    assert not np.allclose(target_weights(rescaled, calibrate(REWARDS)), plain, atol=0.1)


def test_targets_from_margins_compare_both_responses() -> None:
    """A refusal is worse by 1 in helpfulness, the preferred reply worse by 1 in harmlessness."""
    preferred, rejected = [[1.0, -1.0]], [[0.0, -3.0]]
    found = target_weights(preferred, PLAIN, temperature=1.0, rejected_rewards=rejected)
    assert found[0, 1] / found[0, 0] == pytest.approx(math.e)
    assert target_weights(preferred, PLAIN, temperature=1.0)[0, 1] < 0.5


def test_orchestrated_rewards_worked_by_hand() -> None:
    """1/4 * (3 - 1) / 1 + 3/4 * (9 - 5) / 2 = 2."""
    calibration = Calibration((1.0, 5.0), (1.0, 2.0))
    assert orchestrated_rewards([[3.0, 9.0]], [[0.25, 0.75]], calibration) == pytest.approx([2.0])


def test_equal_weights_give_the_mean_of_the_standardised_rewards() -> None:
    calibration = calibrate(REWARDS)
    found = orchestrated_rewards(REWARDS, np.full((3, 2), 0.5), calibration)
    assert found == pytest.approx(calibration.standardise(REWARDS).mean(1))
    assert found.mean() == pytest.approx(0, abs=1e-12)


def test_the_kl_is_taken_off_the_reward() -> None:
    """2 - 0.1 * (-3 + 5) = 1.8."""
    assert kl_shaped_rewards([2.0], [-3.0], [-5.0], beta=0.1) == pytest.approx([1.8])


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="length 0 and points nowhere"):
        unit_direction([0.0, 0.0])
    with pytest.raises(ShapeError, match="angle_deg is nan"):
        direction_at(math.nan)
    with pytest.raises(ShapeError, match=r"rewards\[0, 1\] is nan"):
        scalarised_rewards([[1.0, math.nan]], direction_at(0.0))
    with pytest.raises(ShapeError, match=r"rewards \[1, 3\] against a direction of 2"):
        scalarised_rewards([[1.0, 2.0, 3.0]], direction_at(0.0))
    with pytest.raises(ShapeError, match=r"reward model 1 has the standard deviation 0\.0"):
        calibrate([[1.0, 2.0], [3.0, 2.0]])
    with pytest.raises(ShapeError, match="2 means but 1 standard"):
        Calibration((0.0, 1.0), (1.0,))
    with pytest.raises(ShapeError, match=r"rewards \[1, 3\], expected \[B, 2\]"):
        PLAIN.standardise([[1.0, 2.0, 3.0]])
    with pytest.raises(ShapeError, match="temperature is 0"):
        target_weights(REWARDS, PLAIN, temperature=0)
    with pytest.raises(ShapeError, match=r"rejected_rewards \[1, 2\]"):
        target_weights(REWARDS, PLAIN, rejected_rewards=REWARDS[:1])
    with pytest.raises(ShapeError, match=r"weights\[1\] is \[0.5, 0.6\]"):
        orchestrated_rewards(REWARDS[:2], [[0.5, 0.5], [0.5, 0.6]], PLAIN)
    with pytest.raises(ShapeError, match=r"weights\[0\] is \[-0.5, 1.5\]"):
        orchestrated_rewards(REWARDS[:1], [[-0.5, 1.5]], PLAIN)
    with pytest.raises(ShapeError, match=r"rewards \[3, 2\], weights \[1, 2\]"):
        orchestrated_rewards(REWARDS, [[0.5, 0.5]], PLAIN)
    with pytest.raises(ShapeError, match=r"ref_logps \[1\]"):
        kl_shaped_rewards([1.0, 2.0], [0.0, 0.0], [0.0], beta=0.1)
    with pytest.raises(ShapeError, match="beta is 0"):
        kl_shaped_rewards([1.0], [0.0], [0.0], beta=0)
