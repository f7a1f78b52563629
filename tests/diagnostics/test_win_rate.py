"""Win rates: worked case, refused input."""

import math

import pytest

from mmalign.diagnostics.win_rate import win_rate
from mmalign.errors import ShapeError


def test_win_rate_worked_by_hand() -> None:
    """A win, a loss, a tie: (1 + 0 + 1/2) / 3."""
    assert win_rate([2.0, 1.0, 3.0], [1.0, 2.0, 3.0]) == 0.5
    assert win_rate([1.0, 2.0], [1.0, 2.0]) == 0.5
    assert win_rate([2.0, 3.0], [1.0, 2.0]) == 1.0


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 scores against 1"):
        win_rate([1.0, 2.0], [1.0])
    with pytest.raises(ShapeError, match="a score is NaN"):
        win_rate([math.nan], [1.0])
