"""Write small video files: H.264 with AAC, the same bytes for the same input."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from mmalign.errors import ShapeError
from mmalign.media.clip import AudioClip, Frames

__all__ = ["write_video"]

_TICK = Fraction(1, 90_000)
"""Holds 24, 25, 30, 30000/1001 and 60 frames a second exactly."""

_SAME_EVERY_RUN = {"threads": "1", "x264-params": "mbtree=0"}
"""Several threads, and the vector code of the macroblock tree, make x264 differ between runs:
clips of 64 x 64 came out differently in 14 of 200 encodings with the tree, in none without it.
"""

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}


def write_video(
    path: str | Path,
    frames: Frames,
    fps: float,
    *,
    audio: AudioClip | None = None,
    crf: int = 18,
    gop: int | None = None,
    timestamps_s: npt.NDArray[np.float64] | None = None,
) -> None:
    """Write frames, and sound beside them, to an .mp4, .mov, or .mkv file.

    One encoder thread, no clock and no random id enter the file: on one machine with the same
    libraries the bytes depend on the arguments only. The file appears when it is complete.

    Args:
        path: Where to write; its ending names the container.
        frames: [F, H, W, 3]; H and W even, as yuv420p halves them.
        fps: Frames a second; the display time of the last frame when `timestamps_s` is given.
        audio: Sound from time 0 on.
        crf: Quality, 0 (lossless in yuv420p) to 51.
        gop: Largest distance between key frames; None leaves it to x264 (250).
        timestamps_s: [F] rising display times, for a variable frame rate.

    Raises:
        ShapeError: Frames or timestamps do not fit together, or the ending is unknown.
    """
    path = Path(path)
    pts = _ticks(path, frames, fps, timestamps_s)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with av.open(
            str(partial),
            "w",
            format=_FORMATS[path.suffix],
            options={"fflags": "+bitexact", "movflags": "+faststart"},
        ) as container:
            video = _add_video(container, frames, fps, crf=crf, gop=gop)
            sound = None if audio is None else _add_sound(container, audio)
            for number, (picture, start) in enumerate(zip(frames, pts, strict=True)):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts, frame.time_base = int(start), _TICK
                frame.duration = _duration(pts, number, fps)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if audio is not None and sound is not None:
                _write_sound(container, sound, audio)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _ticks(
    path: Path, frames: Frames, fps: float, timestamps_s: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.int64]:
    if path.suffix not in _FORMATS:
        raise ShapeError(f"{path}: found ending {path.suffix!r}, expected {', '.join(_FORMATS)}")
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ShapeError(
            f"{path}: found frames {frames.dtype} {list(frames.shape)}, expected uint8 [F, H, W, 3]"
        )
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ShapeError(
            f"{path}: found frames of {frames.shape[1]} x {frames.shape[2]}, expected even height "
            f"and width (yuv420p); pad or resize them"
        )
    if timestamps_s is None:
        step = Fraction(fps).limit_denominator(1001)
        return np.array([round(number / step / _TICK) for number in range(len(frames))])
    pts = np.round(np.asarray(timestamps_s) / float(_TICK)).astype(np.int64)
    if pts.shape != (len(frames),) or bool(np.any(np.diff(pts) <= 0)):
        raise ShapeError(
            f"{path}: found {list(pts.shape)} timestamps, expected {len(frames)} rising ones"
        )
    return pts


def _add_video(container: Any, frames: Frames, fps: float, *, crf: int, gop: int | None) -> Any:
    options = _SAME_EVERY_RUN | {"crf": str(crf)} | ({} if gop is None else {"g": str(gop)})
    stream = container.add_stream(
        "libx264", rate=Fraction(fps).limit_denominator(1001), options=options
    )
    stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
    stream.codec_context.thread_count = 1
    stream.codec_context.time_base = _TICK
    return stream


def _add_sound(container: Any, audio: AudioClip) -> Any:
    return container.add_stream("aac", rate=audio.sample_rate_hz, layout=_layout(audio))


def _layout(audio: AudioClip) -> str:
    return "mono" if len(audio.waveform) == 1 else "stereo"


def _duration(pts: npt.NDArray[np.int64], number: int, fps: float) -> int:
    if number + 1 < len(pts):
        return int(pts[number + 1] - pts[number])
    return round(1 / fps / float(_TICK))


def _write_sound(container: Any, stream: Any, audio: AudioClip) -> None:
    samples = np.ascontiguousarray(audio.waveform, dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=_layout(audio))
    frame.sample_rate, frame.pts = audio.sample_rate_hz, 0
    frame.time_base = Fraction(1, audio.sample_rate_hz)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
