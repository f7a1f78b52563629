"""Which frames of a clip the model sees: the only place where frames are chosen."""

from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from mmalign.config import Config
from mmalign.errors import ConfigError

__all__ = ["FrameSampling", "frames_in_range", "sample_indices"]

_CLOCK_SLACK_S = 1e-6
"""Timestamps are fractions rounded to floats; 1.0 must not miss a frame at 0.9999999."""


class FrameSampling(Config):
    """How many frames are taken and from where: by number, by rate, or one by one."""

    num_frames: Annotated[int, Field(ge=1)] | None = 8
    """The middles of this many equal segments; short clips repeat frames."""
    fps: Annotated[float, Field(gt=0)] | None = None
    """Frames per second of the clip's own time, evenly spread."""
    min_frames: int = Field(default=1, ge=1)
    """Lower bound for `fps`; wins over the number of frames that there are."""
    max_frames: int = Field(default=768, ge=1)
    """Upper bound for `fps`."""
    indices: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Frames in presentation order, counted from the start of the requested time range."""
    resize: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    """Height and width of the upright frames."""

    @model_validator(mode="before")
    @classmethod
    def _another_rule_replaces_the_default(cls, values: Any) -> Any:
        if (
            isinstance(values, dict)
            and "num_frames" not in values
            and (values.get("fps") is not None or values.get("indices") is not None)
        ):
            return {**values, "num_frames": None}
        return values

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        rules = {"num_frames": self.num_frames, "fps": self.fps, "indices": self.indices}
        given = [name for name, value in rules.items() if value is not None]
        if len(given) != 1:
            raise ValueError(f"give one of num_frames, fps, indices; found {given or 'none'}")
        if self.min_frames > self.max_frames:
            raise ValueError(f"min_frames {self.min_frames} exceeds max_frames {self.max_frames}")
        return self


def sample_indices(
    num_source_frames: int,
    timestamps_s: npt.NDArray[np.float64] | float,
    sampling: FrameSampling,
) -> npt.NDArray[np.int64]:
    """Positions of the frames to take, [F], rising for the rules `num_frames` and `fps`.

    By number it is frame floor((i + 1/2) N / n) for i = 0 .. n-1. By rate, n is the duration
    times the rate, at most N, within the bounds; the frame on display in the middle of each of
    n equal spans of time is taken, so a variable frame rate gives an even sampling in time.

    Args:
        num_source_frames: N, at least 1.
        timestamps_s: [N] rising display times, or the constant rate of the source in Hz.
        sampling: The rule.

    Raises:
        ConfigError: An explicit index lies behind the last frame.
    """
    if num_source_frames < 1:
        raise ConfigError("cannot sample from a clip of 0 frames; drop the sample")
    if sampling.indices is not None:
        taken = np.asarray(sampling.indices, dtype=np.int64)
        if taken.max() >= num_source_frames:
            raise ConfigError(
                f"sampling.indices asks for frame {taken.max()}, the clip has frames "
                f"0-{num_source_frames - 1}; give indices inside it"
            )
        return taken
    if sampling.num_frames is not None:
        return _centres(num_source_frames, sampling.num_frames)
    assert sampling.fps is not None
    if isinstance(timestamps_s, int | float):
        num = round(num_source_frames / timestamps_s * sampling.fps)
        return _centres(num_source_frames, _bounded(num, num_source_frames, sampling))
    gaps = max(num_source_frames - 1, 1)
    duration_s = float(timestamps_s[-1] - timestamps_s[0]) * num_source_frames / gaps
    num = _bounded(round(duration_s * sampling.fps), num_source_frames, sampling)
    middles_s = timestamps_s[0] + (np.arange(num) + 0.5) * (duration_s / num)
    shown = np.searchsorted(timestamps_s, middles_s + _CLOCK_SLACK_S, side="right") - 1
    return np.asarray(np.clip(shown, 0, num_source_frames - 1), dtype=np.int64)


def frames_in_range(
    timestamps_s: npt.NDArray[np.float64], start_s: float | None, end_s: float | None
) -> npt.NDArray[np.int64]:
    """Numbers of the frames whose display begins in [start_s, end_s).

    A range shorter than a frame gives the frame on display at its start; a range behind the
    last frame's start gives that frame. The caller refuses a start behind the clip's end.
    """
    first = 0 if start_s is None else int(np.searchsorted(timestamps_s, start_s - _CLOCK_SLACK_S))
    last = len(timestamps_s)
    if end_s is not None:
        last = int(np.searchsorted(timestamps_s, end_s - _CLOCK_SLACK_S))
    if first >= last:
        first = max(min(first, len(timestamps_s)) - 1, 0)
        last = first + 1
    return np.arange(first, last, dtype=np.int64)


def _centres(num_source_frames: int, num_frames: int) -> npt.NDArray[np.int64]:
    odd = 2 * np.arange(num_frames, dtype=np.int64) + 1
    centres: npt.NDArray[np.int64] = odd * num_source_frames // (2 * num_frames)
    return centres


def _bounded(num: int, num_source_frames: int, sampling: FrameSampling) -> int:
    return max(min(num, num_source_frames, sampling.max_frames), sampling.min_frames)
