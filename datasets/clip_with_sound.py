"""A clip and its sound as two media of one file, as long as both last."""

import logging
from functools import lru_cache
from pathlib import Path

from mmalign.api import MediaError, MediaRef, probe, probe_audio

__all__ = ["clip_with_sound"]

_log = logging.getLogger(__name__)

_MAX_DIFFERENCE_S = 1.0
"""Clip and sound that differ by more are trimmed to the shorter one; a reconstruction."""


def clip_with_sound(path: Path, *, about_sound: bool) -> tuple[MediaRef, ...]:
    """The media of a question: the clip, then its sound.

    Where the file has no sound, a question about what is seen gets the clip alone. One about
    what is heard keeps the reference to the sound that is not there, so that whoever reads it
    drops the question and writes down why. A file that cannot be read is treated alike.

    Args:
        path: A video file with sound; it is opened, not decoded.
        about_sound: Whether the question cannot be answered without the sound.
    """
    lengths = _lengths_s(str(path))
    video, audio = (MediaRef(kind=kind, uri=str(path)) for kind in ("video", "audio"))
    if lengths is None:
        return video, audio
    seen_s, heard_s = lengths
    if heard_s is None:
        return (video, audio) if about_sound else (video,)
    if abs(seen_s - heard_s) <= _MAX_DIFFERENCE_S:
        return video, audio
    shorter = {"start_s": 0.0, "end_s": min(seen_s, heard_s)}
    return video.model_copy(update=shorter), audio.model_copy(update=shorter)


@lru_cache(maxsize=100_000)
def _lengths_s(uri: str) -> tuple[float, float | None] | None:
    """Seconds of picture and of sound, None for no sound; None where the file cannot be read."""
    try:
        info = probe(uri)
        if not info.has_audio:
            _log.warning("%s: has no sound; questions about what is heard cannot be asked", uri)
            return info.duration_s, None
        heard_s = probe_audio(uri).duration_s
    except MediaError:
        return None  # the engine meets it again and drops the sample with the reason
    if abs(info.duration_s - heard_s) > _MAX_DIFFERENCE_S:
        _log.warning(
            "%s: picture lasts %.2f s, sound %.2f s; both are trimmed to the shorter",
            uri,
            info.duration_s,
            heard_s,
        )
    return info.duration_s, heard_s
