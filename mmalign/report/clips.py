"""Turn media references into small clips that a browser plays, inside the page while they fit.

Left out on purpose: sound of clips with operations (none of the operations defines what it does
to the sound), and more than the first 120 displayed frames per clip.
"""

import base64
import io
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmalign.errors import MediaError, MmalignError
from mmalign.media import (
    AudioClip,
    FrameSampling,
    VideoInfo,
    load_audio,
    load_image,
    load_video,
    probe,
    probe_audio,
    write_video,
)
from mmalign.records import MediaOperation, MediaRef, content_id
from mmalign.report.spectrogram import spectrogram_png

__all__ = [
    "Clip",
    "ClipWriter",
    "clip_duration_s",
    "describe_operation",
    "operation_names",
    "source_name",
]

_MAX_WIDTH = 320
_MAX_FPS = 12.0
_MAX_FRAMES = 120
_PIXEL_ART_WIDTH = 128
"""Frames at most this wide are drawn with visible pixels instead of being blurred."""


@dataclass(frozen=True)
class Clip:
    """A file that the page shows, or the reason why there is none."""

    kind: Literal["video", "audio", "image"]
    src: str
    """A data: URI, or a path relative to the page; empty where `problem` says why."""
    poster: str = ""
    width: int = 16
    height: int = 9
    duration_s: float = 0.0
    num_frames: int = 0
    has_sound: bool = False
    operations: tuple[str, ...] = ()
    """Names, in the order in which they are applied."""
    source: str = ""
    problem: str = ""

    @property
    def pixelated(self) -> bool:
        """Whether the frames are so small that they are shown enlarged."""
        return self.kind != "audio" and self.width <= _PIXEL_ART_WIDTH


@dataclass
class ClipWriter:
    """Encodes each distinct reference once and keeps count of the bytes inside the page."""

    report_folder: Path
    base_folder: Path
    """Relative references that do not exist from here are looked up against it."""
    sampling: FrameSampling
    """What the policy saw: operations after sampling act on exactly these frames."""
    max_inline_bytes: int
    num_inline_bytes: int = 0
    num_linked: int = 0
    _done: dict[str, Clip] = field(default_factory=dict)

    def clip(self, ref: MediaRef) -> Clip:
        """The reference as a playable clip; what cannot be decoded is a clip with a `problem`."""
        key = content_id(ref.model_dump(mode="json"))
        if key not in self._done:
            try:
                self._done[key] = self._encode(self._located(ref), key)
            except (MmalignError, OSError) as error:
                self._done[key] = Clip(
                    kind=ref.kind, src="", problem=str(error), source=source_name(ref)
                )
        return self._done[key]

    def _located(self, ref: MediaRef) -> MediaRef:
        if ref.uri.startswith("data:") or Path(ref.uri).exists():
            return ref
        beside = self.base_folder / ref.uri
        return ref.model_copy(update={"uri": str(beside)}) if beside.exists() else ref

    def _encode(self, ref: MediaRef, key: str) -> Clip:
        if ref.kind == "audio":
            return self._encode_audio(ref, key)
        if ref.kind == "image":
            return self._encode_image(ref, key)
        return self._encode_video(ref, key)

    def _encode_video(self, ref: MediaRef, key: str) -> Clip:
        info = probe(ref.uri)
        clip = load_video(ref, self._display_sampling(ref, info))
        frames = _shrunk(clip.frames)
        duration_s = clip_duration_s(clip.timestamps_s, clip.fps)
        sound = _sound(ref, info)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            write_video(
                path,
                frames,
                fps=len(frames) / duration_s,
                audio=sound,
                crf=20 if frames.shape[2] <= _PIXEL_ART_WIDTH else 28,
            )
            content = path.read_bytes()
        return Clip(
            kind="video",
            src=self._placed(content, f"{key}.mp4", "video/mp4"),
            poster=_picture(frames[len(frames) // 2]),
            width=frames.shape[2],
            height=frames.shape[1],
            duration_s=duration_s,
            num_frames=len(frames),
            has_sound=sound is not None,
            operations=operation_names(ref),
            source=source_name(ref),
        )

    def _display_sampling(self, ref: MediaRef, info: VideoInfo) -> FrameSampling:
        if any(item.stage == "after_sampling" for item in ref.operations):
            return self.sampling
        keeps_size = info.width <= 2 * _MAX_WIDTH or bool(ref.operations)
        scale = _MAX_WIDTH / info.width
        return FrameSampling(
            fps=min(info.fps or _MAX_FPS, _MAX_FPS),
            max_frames=_MAX_FRAMES,
            resize=None if keeps_size else (_even(info.height * scale), _even(info.width * scale)),
        )

    def _encode_image(self, ref: MediaRef, key: str) -> Clip:
        frames = _shrunk(load_image(ref)[np.newaxis])
        content = _image_bytes(frames[0])
        return Clip(
            kind="image",
            src=self._placed(content, f"{key}.jpg", _image_type(frames[0])),
            width=frames.shape[2],
            height=frames.shape[1],
            operations=operation_names(ref),
            source=source_name(ref),
        )

    def _encode_audio(self, ref: MediaRef, key: str) -> Clip:
        sound = load_audio(ref, sample_rate_hz=probe_audio(ref.uri).sample_rate_hz)
        return Clip(
            kind="audio",
            src=self._placed(_wav(sound), f"{key}.wav", "audio/wav"),
            poster=_png_uri(spectrogram_png(sound)),
            duration_s=sound.waveform.shape[-1] / sound.sample_rate_hz,
            has_sound=True,
            operations=operation_names(ref),
            source=source_name(ref),
        )

    def _placed(self, content: bytes, name: str, media_type: str) -> str:
        """Inside the page while there is room, else as a file beside it."""
        uri = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
        if self.num_inline_bytes + len(uri) <= self.max_inline_bytes:
            self.num_inline_bytes += len(uri)
            return uri
        folder = self.report_folder / "media"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        self.num_linked += 1
        return f"media/{name}"


def describe_operation(operation: MediaOperation) -> str:
    """`mask (ratio 0.4)`: the name and the parameters in words."""
    values = ", ".join(
        f"{name} {_short(value)}" for name, value in sorted(operation.params.items())
    )
    name = operation.name.replace("_", " ")
    return f"{name} ({values})" if values else name


def operation_names(ref: MediaRef) -> tuple[str, ...]:
    """Names of what is done to the media, in words, in order."""
    return tuple(item.name.replace("_", " ") for item in ref.operations)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "×".join(_short(item) for item in value)
    return str(value)


def source_name(ref: MediaRef) -> str:
    """`clip.mp4, 3 s to 9 s`: the file and the part of it."""
    name = "embedded data" if ref.uri.startswith("data:") else Path(ref.uri).name
    if ref.start_s is None and ref.end_s is None:
        return name
    end = "end" if ref.end_s is None else f"{ref.end_s:g} s"
    return f"{name}, {ref.start_s or 0:g} s to {end}"


def clip_duration_s(timestamps_s: npt.NDArray[np.float64], source_fps: float) -> float:
    """Time that the frames stand for, the last one's own time included."""
    if len(timestamps_s) < 2:
        return 1.0
    span_s = float(timestamps_s.max() - timestamps_s.min())
    if span_s <= 0:
        return len(timestamps_s) / (source_fps or _MAX_FPS)
    return span_s * len(timestamps_s) / (len(timestamps_s) - 1)


def _shrunk(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """At most 320 pixels wide, with even sides as H.264 wants them."""
    height, width = frames.shape[1:3]
    scale = min(1.0, _MAX_WIDTH / width)
    size = (_even(width * scale), _even(height * scale))
    if size == (width, height):
        return frames
    resample = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return np.stack([np.asarray(Image.fromarray(f).resize(size, resample)) for f in frames])


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _sound(ref: MediaRef, info: VideoInfo) -> AudioClip | None:
    """The clip's sound; None where it has none, has operations, is long or cannot be read."""
    if not info.has_audio or ref.operations or info.duration_s > _MAX_FRAMES:
        return None
    try:
        # at the file's own rate: resampling would import torch, which takes seconds
        return load_audio(ref, sample_rate_hz=probe_audio(ref.uri).sample_rate_hz)
    except MediaError:
        return None


def _image_type(frame: npt.NDArray[np.uint8]) -> str:
    return "image/png" if frame.shape[1] <= _PIXEL_ART_WIDTH else "image/jpeg"


def _image_bytes(frame: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    if _image_type(frame) == "image/png":
        Image.fromarray(frame).save(buffer, "PNG", optimize=True)
    else:
        Image.fromarray(frame).save(buffer, "JPEG", quality=72)
    return buffer.getvalue()


def _png_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _picture(frame: npt.NDArray[np.uint8]) -> str:
    encoded = base64.b64encode(_image_bytes(frame)).decode()
    return f"data:{_image_type(frame)};base64,{encoded}"


def _wav(sound: AudioClip) -> bytes:
    samples = (np.clip(sound.waveform.mean(axis=0), -1.0, 1.0) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.sample_rate_hz)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()
