"""Small media files whose frames know their own number, and files that are broken in known ways."""

import os
import signal
import struct
import time
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmalign.media import AudioClip, Frames, write_video
from mmalign.media.worker import HANDLERS, Answer, serve

__all__ = [
    "corrupt",
    "crash_on_video",
    "cut_off",
    "hang_on_video",
    "numbered_frames",
    "read_numbers",
    "rotate",
    "tone",
    "uneven_times",
    "write_numbered",
    "write_sound",
]

_BITS = 16
_TKHD_MATRIX_OFFSET = 44
"""Bytes from the box's name to its matrix, version 0."""
_ONE = 1 << 16
_MATRICES = {
    90: (0, -_ONE, _ONE, 0),
    180: (-_ONE, 0, 0, -_ONE),
    270: (0, _ONE, -_ONE, 0),
}


def numbered_frames(
    num_frames: int, *, height: int = 64, width: int = 64, first: int = 0
) -> Frames:
    """Frames [F, H, W, 3] that show their number as 4 x 4 black and white blocks."""
    numbers = first + np.arange(num_frames)
    bits = (numbers[:, None] >> np.arange(_BITS)) & 1
    blocks = bits.reshape(num_frames, 4, 4).astype(np.uint8) * 255
    tall = np.repeat(blocks, height // 4, axis=1)
    wide = np.repeat(tall, width // 4, axis=2)
    return np.repeat(wide[..., None], 3, axis=3)


def read_numbers(frames: Frames) -> list[int]:
    """The numbers that decoded, perhaps scaled, frames show."""
    height, width = frames.shape[1:3]
    rows = (2 * np.arange(4) + 1) * height // 8
    columns = (2 * np.arange(4) + 1) * width // 8
    bits = frames[:, rows][:, :, columns, 1] > 127
    return [int(value) for value in bits.reshape(len(frames), _BITS) @ (1 << np.arange(_BITS))]


def write_numbered(
    path: Path,
    num_frames: int = 60,
    *,
    fps: float = 25.0,
    gop: int | None = None,
    timestamps_s: npt.NDArray[np.float64] | None = None,
    audio: AudioClip | None = None,
    height: int = 64,
    width: int = 64,
) -> Path:
    """A video of numbered frames; `gop` above the length makes a long group of pictures."""
    frames = numbered_frames(num_frames, height=height, width=width)
    write_video(path, frames, fps, gop=gop, timestamps_s=timestamps_s, audio=audio)
    return path


def uneven_times(num_frames: int, *, fps: float = 25.0) -> npt.NDArray[np.float64]:
    """Display times whose gaps are 1, 2, 3, 1, 2, 3 ... frames of the given rate."""
    gaps = 1 + np.arange(num_frames - 1) % 3
    return np.concatenate([[0.0], np.cumsum(gaps)]) / fps


def rotate(path: Path, degrees: int) -> Path:
    """Mark an .mp4 as recorded with a turned camera: players turn it anticlockwise by `degrees`."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + _TKHD_MATRIX_OFFSET
    a, b, c, d = _MATRICES[degrees]
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def cut_off(path: Path, share: float) -> Path:
    """Keep only the leading share of a file's bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def corrupt(path: Path, *, begin: float = 0.4, end: float = 0.6) -> Path:
    """Overwrite a part of a file, given in shares of its length, with noise."""
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    part = content[int(begin * len(content)) : int(end * len(content))]
    part[:] = np.random.default_rng(0).integers(0, 256, len(part), dtype=np.uint8)
    path.write_bytes(content.tobytes())
    return path


def tone(
    duration_s: float, *, hz: float = 440.0, sample_rate_hz: int = 16_000, num_channels: int = 1
) -> AudioClip:
    """A sine at half of the full scale."""
    times_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    wave_ = (0.5 * np.sin(2 * np.pi * hz * times_s)).astype(np.float32)
    return AudioClip(np.repeat(wave_[None], num_channels, axis=0), sample_rate_hz)


def write_sound(path: Path, audio: AudioClip) -> Path:
    """A .wav file of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(audio.waveform))
        file.setsampwidth(2)
        file.setframerate(audio.sample_rate_hz)
        file.writeframes(np.round(audio.waveform.T * 32767).astype("<i2").tobytes())
    return path


def hang_on_video() -> None:
    """A decode worker that never answers when asked for a video whose name holds "hang"."""
    serve({**HANDLERS, "video": _hang})


def crash_on_video() -> None:
    """A decode worker that dies of a bad memory access when asked for a video."""
    serve({**HANDLERS, "video": _crash})


def _hang(request: Mapping[str, Any]) -> Answer:
    while "hang" in Path(request["uri"]).name:
        time.sleep(60)
    return HANDLERS["video"](request)


def _crash(_request: Mapping[str, Any]) -> Answer:
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("unreachable")
