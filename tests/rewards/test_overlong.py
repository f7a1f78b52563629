"""DAPO's penalty on length: worked cases and refused input."""

import pytest

from mmalign.errors import RecordError, ShapeError
from mmalign.rewards.overlong import overlong_penalty


@pytest.mark.parametrize(
    ("num_tokens", "value"),
    [(0, 0.0), (16384, 0.0), (18432, -0.5), (20480, -1.0), (22528, -1.5)],
)
def test_worked_by_hand(num_tokens: int, value: float) -> None:
    """Up to 20480 - 4096 = 16384 nothing; 2048 further is half of the stretch."""
    assert overlong_penalty(num_tokens).value == value


def test_the_factor_scales_the_penalty() -> None:
    found = overlong_penalty(90, max_tokens=100, cache_tokens=20, factor=3.0)
    assert found.value == pytest.approx(-1.5)


def test_settings_and_lengths_out_of_range_are_refused() -> None:
    with pytest.raises(ShapeError, match="cache_tokens is 200, expected 1 to max_tokens, 100"):
        overlong_penalty(5, max_tokens=100, cache_tokens=200)
    with pytest.raises(ShapeError, match="factor is 0"):
        overlong_penalty(5, factor=0.0)
    with pytest.raises(RecordError, match="num_tokens is -1"):
        overlong_penalty(-1)
