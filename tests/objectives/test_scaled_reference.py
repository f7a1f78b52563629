"""DPO with a scaled reference: worked case, limits, refused input."""

import math

import pytest
from torch.testing import assert_close

from mmalign.errors import ConfigError, ShapeError
from mmalign.objectives import dpo_loss, parse_objective
from mmalign.objectives.scaled_reference import dpo_scaled_reference_loss
from mmalign.testing.golden import t64

LOGPS = (t64([-1.0, -5.0]), t64([-3.0, -4.0]), t64([-2.0, -6.0]), t64([-3.0, -9.0]))


def test_worked_by_hand() -> None:
    """Rewards 0.5 * (-1 + 2 * 2) = 1.5 and 0.5 * (-3 + 2 * 3) = 1.5: the loss is log 2."""
    first = [values[:1] for values in LOGPS]
    result = dpo_scaled_reference_loss(*first, beta=0.5, reference_weight=2.0)
    assert result.loss.item() == pytest.approx(math.log(2), rel=1e-12)
    assert result.chosen_rewards.item() == pytest.approx(1.5)


def test_weight_1_is_dpo() -> None:
    scaled = dpo_scaled_reference_loss(*LOGPS, beta=0.1, reference_weight=1.0)
    assert_close(scaled.loss, dpo_loss(*LOGPS, beta=0.1).loss, rtol=0, atol=0)


def test_weight_0_has_no_reference() -> None:
    zeros = t64([0.0, 0.0])
    scaled = dpo_scaled_reference_loss(*LOGPS, beta=0.1, reference_weight=0.0)
    without = dpo_loss(*LOGPS[:2], zeros, zeros, beta=0.1)
    assert_close(scaled.loss, without.loss, rtol=0, atol=0)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"ref_rejected_logps \[1\]"):
        dpo_scaled_reference_loss(*LOGPS[:3], t64([0.0]), beta=0.1, reference_weight=1.0)
    with pytest.raises(ConfigError, match=r"reference_weight: .*greater than or equal to 0"):
        parse_objective({"name": "dpo_scaled_reference", "reference_weight": -1.0})
