"""Read the media that a prompt refers to as a model's processor takes them."""

from collections.abc import Sequence
from typing import Any

from mmalign.media import FrameCache, FrameSampling, load_audio, load_image, load_video
from mmalign.models.families import DecodedMedia, sound_rate_hz
from mmalign.records import MediaRef

__all__ = ["read_media"]


def read_media(
    processor: Any,  # transformers' processors share no typed base
    refs: Sequence[MediaRef],
    sampling: FrameSampling,
    *,
    cache: FrameCache | None = None,
) -> list[DecodedMedia]:
    """Pictures, frames of clips, and sounds at the processor's rate, in order.

    Raises:
        MediaError: A file cannot be read.
        CapabilityError: There is a sound among them, which the processor does not take.
    """

    def read(ref: MediaRef) -> DecodedMedia:
        if ref.kind == "video":
            return load_video(ref, sampling, cache=cache)
        if ref.kind == "audio":
            return load_audio(ref, sample_rate_hz=sound_rate_hz(processor))
        return load_image(ref)

    return [read(ref) for ref in refs]
