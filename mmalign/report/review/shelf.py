"""The media of records, as files that a browser plays; no other file is ever opened.

A file that no operation changes is served as it is, sound included. Where operations act, the
frames that the model saw are written to a clip in the cache folder, with the sound of the source:
operations leave that as it is.
"""

import mimetypes
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from mmalign.errors import MediaError, MediaMissingError, MmalignError
from mmalign.media import (
    AudioClip,
    Frames,
    FrameSampling,
    cache_folder,
    load_audio,
    load_image,
    load_video,
    probe_audio,
    write_video,
)
from mmalign.media.index import media_errors
from mmalign.media.source import open_source
from mmalign.records import MediaRef, content_id
from mmalign.report.clips import Clip, clip_duration_s, operation_names, source_name

__all__ = ["Shelf", "Shown"]

_FORMAT = 1
"""Part of the name of cached clips; another way of writing them gets another number."""
_SOUND = {"aac", "mp3", "opus", "vorbis", "flac", "pcm_s16le"}
_PICTURE = {"h264", "vp8", "vp9", "libvpx-vp9", "av1", "libdav1d"}
_PLAYABLE: dict[str, tuple[set[str], set[str]]] = {
    "video": ({".mp4", ".m4v", ".webm", ".mov"}, _PICTURE | _SOUND),
    "audio": (
        {".wav", ".mp3", ".m4a", ".ogg", ".oga", ".opus", ".flac", ".mp4", ".webm"},
        _PICTURE | _SOUND,
    ),
    "image": ({".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif"}, set()),
}
"""Endings of files, and codecs in them, that every current browser plays."""
_SUFFIX = {"video": ".mp4", "audio": ".wav", "image": ".png"}


class Shown(NamedTuple):
    """A file to send."""

    path: Path
    media_type: str


class _Look(NamedTuple):
    width: int
    height: int
    duration_s: float
    has_sound: bool
    codecs: frozenset[str]


@dataclass
class Shelf:
    """Names the media that pages show by keys, and finds the files that the keys stand for."""

    base_folder: Path
    """Relative references that do not exist from here are looked up against it."""
    sampling: FrameSampling
    """What the policy saw: operations after sampling act on exactly these frames."""
    _clips: dict[str, Clip] = field(default_factory=dict)
    _refs: dict[str, tuple[MediaRef, bool]] = field(default_factory=dict)
    """Located references, and whether the file itself can be sent."""
    _writing: Any = field(default_factory=Lock)

    def clip(self, ref: MediaRef) -> Clip:
        """What a page says about a reference; from now on `file` finds it.

        One that cannot be read is a clip with a `problem`.
        """
        key = content_id(ref.model_dump(mode="json"))
        if key not in self._clips:
            try:
                located = self._located(ref)
                look = _look(located)
                unchanged = _plays_unchanged(located, look)
                self._clips[key] = _described(located, look, key, unchanged)
                self._refs[key] = (located, unchanged)
            except (MmalignError, OSError) as error:
                self._clips[key] = Clip(
                    kind=ref.kind, src="", problem=str(error), source=source_name(ref)
                )
        return self._clips[key]

    def must_write(self, key: str) -> bool:
        """Whether `file` will take its time: the clip is not in the cache folder yet."""
        ref, unchanged = self._refs.get(key, (None, True))
        return ref is not None and not unchanged and not self._cache_path(ref).exists()

    def file(self, key: str) -> Shown | None:
        """The file of a key that a page has named; None for any other text.

        Raises:
            MediaError: The file cannot be read any more, or its operations fail.
        """
        ref, unchanged = self._refs.get(key, (None, False))
        if ref is None:
            return None
        path = Path(ref.uri) if unchanged else self._cached(ref)
        if not path.is_file():
            raise MediaMissingError(f"{path}: the file is gone; put it back to see it")
        return Shown(path, mimetypes.guess_type(path.name)[0] or "application/octet-stream")

    def _located(self, ref: MediaRef) -> MediaRef:
        if ref.uri.startswith("data:"):
            return ref
        for path in (Path(ref.uri), self.base_folder / ref.uri):
            if path.is_file():
                return ref.model_copy(update={"uri": str(path.resolve())})
        raise MediaMissingError(f"{ref.uri}: there is no such file")

    def _cached(self, ref: MediaRef) -> Path:
        path = self._cache_path(ref)
        with self._writing:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                    part = Path(folder) / path.name
                    _WRITERS[ref.kind](part, ref, self.sampling)
                    part.replace(path)
        return path

    def _cache_path(self, ref: MediaRef) -> Path:
        """Named by all that the clip depends on: another file at the same place is another clip."""
        stamp: Sequence[int] = ()
        if not ref.uri.startswith("data:") and Path(ref.uri).exists():
            found = Path(ref.uri).stat()
            stamp = (found.st_mtime_ns, found.st_size)
        key = content_id(
            {
                "ref": ref.model_dump(mode="json"),
                "sampling": self.sampling.model_dump(mode="json"),
                "file": list(stamp),
                "format": _FORMAT,
            }
        )
        return cache_folder("view") / f"{key}{_SUFFIX[ref.kind]}"


def _described(ref: MediaRef, look: _Look, key: str, unchanged: bool) -> Clip:
    start_s, end_s = ref.start_s or 0.0, min(ref.end_s or look.duration_s, look.duration_s)
    src = f"/media/{key}"
    if unchanged and (ref.start_s is not None or ref.end_s is not None):
        src += f"#t={start_s:g},{end_s:g}"
    return Clip(
        kind=ref.kind,
        src=src,
        width=look.width or 16,
        height=look.height or 9,
        duration_s=max(0.0, end_s - start_s),
        has_sound=look.has_sound,
        operations=operation_names(ref),
        source=source_name(ref),
    )


def _plays_unchanged(ref: MediaRef, look: _Look) -> bool:
    """Whether a browser plays the file itself."""
    if ref.operations or ref.uri.startswith("data:"):
        return False
    suffixes, codecs = _PLAYABLE[ref.kind]
    return Path(ref.uri).suffix.lower() in suffixes and look.codecs <= codecs


def _look(ref: MediaRef) -> _Look:
    """What the header of a file says; nothing is decoded, so that hours of film cost no time."""
    if ref.kind == "image":
        frame = load_image(ref.model_copy(update={"operations": ()}))
        return _Look(frame.shape[1], frame.shape[0], 0.0, False, frozenset())
    source = open_source(ref.uri)
    with media_errors(source), av.open(source.handle(), "r") as container:
        video = container.streams.video[0] if container.streams.video else None
        streams = [*container.streams.video, *container.streams.audio]
        if ref.kind == "video" and video is None:
            raise MediaError(f"{source.name}: there is no picture in it; refer to it as audio")
        if ref.kind == "audio" and not container.streams.audio:
            raise MediaError(f"{source.name}: there is no sound in it")
        return _Look(
            width=video.codec_context.width if video else 0,
            height=video.codec_context.height if video else 0,
            duration_s=(container.duration or 0) / av.time_base,
            has_sound=bool(container.streams.audio),
            codecs=frozenset(stream.codec_context.name for stream in streams),
        )


def _write_clip(path: Path, ref: MediaRef, sampling: FrameSampling) -> None:
    seen = sampling if ref.operations else FrameSampling(fps=12.0, max_frames=720)
    clip = load_video(ref, seen)
    duration_s = clip_duration_s(clip.timestamps_s, clip.fps)
    frames = _even(clip.frames)
    write_video(path, frames, fps=len(frames) / duration_s, audio=_sound(ref), crf=14)


def _write_sound(path: Path, ref: MediaRef, _sampling: FrameSampling) -> None:
    container: Any
    sound = _sound(ref)
    assert sound is not None  # the page said so
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=sound.sample_rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (np.clip(sound.waveform[:1], -1.0, 1.0) * 32767).astype(np.int16), format="s16"
        )
        frame.sample_rate = sound.sample_rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_image(path: Path, ref: MediaRef, _sampling: FrameSampling) -> None:
    Image.fromarray(load_image(ref)).save(path, "PNG")


_WRITERS = {"video": _write_clip, "audio": _write_sound, "image": _write_image}


def _sound(ref: MediaRef) -> AudioClip | None:
    """The sound in the reference's range at the file's own rate; None where there is none."""
    if not _look(ref).has_sound:
        return None
    return load_audio(ref, sample_rate_hz=probe_audio(ref.uri).sample_rate_hz)


def _even(frames: Frames) -> Frames:
    """With a last row or column repeated where a side is odd, as H.264 wants even ones."""
    height, width = frames.shape[1:3]
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
