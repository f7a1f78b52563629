"""What comes out of media files: values without a file handle."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["AudioClip", "AudioInfo", "Frames", "VideoClip", "VideoInfo", "same_clip"]

Frames = npt.NDArray[np.uint8]
"""[F, H, W, 3], red green blue."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says and holds, known without decoding a frame."""

    path: str
    num_frames: int
    """Frames whose packets are in the file, not what its header promises."""
    fps: float
    """Mean rate: frames over duration."""
    duration_s: float
    """End of the last frame's display."""
    width: int
    """Pixels of the upright picture."""
    height: int
    rotation: int
    """Degrees anticlockwise by which stored frames are turned to stand upright: 0, 90, 180, 270."""
    has_audio: bool
    codec: str
    key_frames: tuple[int, ...] = ()
    """Indices, in presentation order, of frames that decode by themselves."""


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a file says about its sound."""

    path: str
    duration_s: float
    sample_rate_hz: int
    num_channels: int
    codec: str


@dataclass(frozen=True)
class VideoClip:
    """Frames as the model sees them, and where they come from."""

    frames: Frames
    """[F, H, W, 3] uint8, upright."""
    timestamps_s: npt.NDArray[np.float64]
    """[F] on the source's time axis, rising; operations that act after sampling leave it."""
    indices: npt.NDArray[np.int64]
    """[F] presentation-order numbers of the source frames shown; operations move them along."""
    fps: float
    """Mean rate of the source."""
    decoder: str
    """Name and version, `pyav-18.1.0`."""
    source_hash: str
    """blake2b-128 of the file that the frames come from."""


@dataclass(frozen=True)
class AudioClip:
    """A piece of sound."""

    waveform: npt.NDArray[np.float32]
    """[C, N], nominally in [-1, 1]; sample 0 is at the start of the requested range."""
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.waveform.shape[1]) / self.sample_rate_hz


def same_clip(a: VideoClip, b: VideoClip) -> bool:
    """Whether two clips show the same pixels; a candidate equal to its source teaches nothing."""
    return bool(a.frames.shape == b.frames.shape and np.array_equal(a.frames, b.frames))
