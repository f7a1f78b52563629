"""Which frames the rules name."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmalign.errors import ConfigError
from mmalign.media import FrameSampling, sample_indices
from mmalign.media.sampling import frames_in_range


def taken(num_source: int, source_fps: float = 25.0, /, **rule: Any) -> list[int]:
    return [int(i) for i in sample_indices(num_source, source_fps, FrameSampling(**rule))]


def test_uniform_by_hand() -> None:
    """Segments of 2.5 frames have their middles at 1.25, 3.75, 6.25, 8.75."""
    assert taken(10, num_frames=4) == [1, 3, 6, 8]


def test_short_clips_repeat_frames() -> None:
    assert taken(3, num_frames=6) == [0, 0, 1, 1, 2, 2]


@given(num_source=st.integers(1, 5000), num=st.integers(1, 300))
def test_uniform_is_centred_and_rising(num_source: int, num: int) -> None:
    found = np.array(taken(num_source, num_frames=num))
    assert len(found) == num
    assert np.all(np.diff(found) >= 0)
    assert found[0] == num_source // (2 * num)
    # its own mirror image, up to the rounding of a middle that falls between two frames
    assert np.abs(found + found[::-1] - (num_source - 1)).max() <= 1


@pytest.mark.parametrize(
    ("rule", "num"),
    [
        ({"fps": 1.0}, 10),
        ({"fps": 0.01}, 1),
        ({"fps": 0.1, "min_frames": 4}, 4),
        ({"fps": 5.0, "max_frames": 16}, 16),
        ({"fps": 100.0}, 250),
        ({"fps": 100.0, "min_frames": 300}, 300),
    ],
)
def test_bounds_of_the_rate(rule: dict[str, Any], num: int) -> None:
    """A clip of 10 s and 250 frames."""
    assert len(taken(250, **rule)) == num
    times_s = np.arange(250) / 25
    assert len(sample_indices(250, times_s, FrameSampling(**rule))) == num


def test_times_and_rate_of_an_even_clip_agree() -> None:
    sampling = FrameSampling(fps=3.0)
    assert taken(240, 24.0, fps=3.0) == sample_indices(240, np.arange(240) / 24, sampling).tolist()


def test_giving_a_rule_replaces_the_default_one() -> None:
    assert FrameSampling().num_frames == 8
    assert FrameSampling(fps=2.0).num_frames is None
    assert FrameSampling(indices=(1,)).num_frames is None
    round_trip = FrameSampling.model_validate(FrameSampling(fps=2.0).model_dump(mode="json"))
    assert round_trip == FrameSampling(fps=2.0)


@pytest.mark.parametrize(
    "rule",
    [
        {"num_frames": 8, "fps": 1.0},
        {"num_frames": None},
        {"fps": 1.0, "indices": (1,)},
        {"fps": 1.0, "min_frames": 9, "max_frames": 8},
        {"indices": ()},
        {"indices": (-1,)},
    ],
)
def test_contradicting_rules_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"give one of|exceeds|at least 1|greater than"):
        FrameSampling(**rule)


def test_an_index_behind_the_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="asks for frame 30, the clip has frames 0-29"):
        taken(30, indices=(0, 30))


@pytest.mark.parametrize(
    ("start_s", "end_s", "frames"),
    [
        (None, None, [0, 1, 2, 3, 4]),
        (0.2, 0.4, [1, 2]),
        (0.1, 0.2, [0]),
        (0.3, None, [2, 3, 4]),
        (0.21, 0.22, [1]),
        (0.999, None, [4]),
    ],
)
def test_ranges_by_hand(start_s: float | None, end_s: float | None, frames: list[int]) -> None:
    """A range holds the frames that begin in it; 0.3 finds the one at 0.2999999."""
    times_s = np.array([0.0, 0.2, 0.2999999, 0.6, 0.8])
    assert frames_in_range(times_s, start_s, end_s).tolist() == frames
