"""Read the wanted part of a file: runs in the worker process or, on request, in the caller's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from mmalign.errors import MediaEmptyError, MediaTruncatedError
from mmalign.media.clip import AudioClip, Frames
from mmalign.media.index import FrameIndex, audio_stream, index_video, media_errors, origin_s
from mmalign.media.operators import frame_order
from mmalign.media.readers import DecoderName, read_frames
from mmalign.media.sampling import FrameSampling, frames_in_range, sample_indices
from mmalign.media.source import Source, open_source
from mmalign.records import MediaOperation

__all__ = ["DecodedVideo", "decode_audio", "decode_video"]

_PREROLL_S = 0.5
"""Sound decoders need some packets before the first good sample."""

_MISSING_SOUND_S = 0.5
"""Headers round; a shorter gap at the end is no truncation."""


@dataclass(frozen=True)
class DecodedVideo:
    """Sampled frames before any operation that acts after sampling."""

    frames: Frames
    timestamps_s: npt.NDArray[np.float64]
    indices: npt.NDArray[np.int64]
    fps: float
    decoder: str


def decode_video(
    uri: str,
    *,
    start_s: float | None,
    end_s: float | None,
    before: Sequence[MediaOperation],
    sampling: FrameSampling,
    decoder: DecoderName,
) -> DecodedVideo:
    """Sampled frames of a time range.

    Operations that act before sampling reorder the range's frames on its time axis; only the
    frames that are then sampled get decoded.

    Raises:
        MediaError: The file cannot give these frames.
    """
    source = open_source(uri)
    index = index_video(source)
    _refuse_gaps(source, index, start_s, end_s)
    shown = frames_in_range(index.timestamps_s, start_s, end_s)
    axis_s = index.timestamps_s[shown]
    for operation in before:
        shown = shown[frame_order(operation, len(shown))]
    taken = sample_indices(len(shown), axis_s, sampling)
    wanted = shown[taken]
    read = read_frames(source, index, wanted, size=sampling.resize, decoder=decoder)
    return DecodedVideo(
        frames=read.frames,
        timestamps_s=axis_s[taken],
        indices=wanted,
        fps=index.info.fps,
        decoder=read.decoder,
    )


def decode_audio(uri: str, *, start_s: float | None, end_s: float | None) -> AudioClip:
    """Sound of a time range at its own rate and with its own channels.

    Sample 0 is at `start_s`; where the sound begins later than the file, silence stands first.

    Raises:
        MediaError: The file cannot give this sound.
    """
    source = open_source(uri)
    with media_errors(source), av.open(source.handle(), "r") as container:
        stream = audio_stream(container, source)
        rate = int(stream.rate)
        length_s = stream.duration * stream.time_base if stream.duration else None
        begin_s = origin_s(container)
        if start_s and start_s > _PREROLL_S:
            container.seek(int((start_s - _PREROLL_S + begin_s) * av.time_base))
        to_float = av.AudioResampler(format="fltp")
        pieces: list[npt.NDArray[np.float32]] = []
        first_s: float | None = None
        num_samples = 0
        for frame in _sound_of(container, stream):
            if first_s is None:
                first_s = (frame.time or 0.0) - begin_s
            pieces.extend(np.asarray(part.to_ndarray()) for part in to_float.resample(frame))
            num_samples += frame.samples
            if end_s is not None and first_s + num_samples / rate >= end_s:
                break
    if first_s is None:
        raise MediaEmptyError(
            f"{source.name}: the sound from {start_s or 0.0:.3f} s on has no samples; "
            f"ask for a range inside the file, or drop the sample"
        )
    last_s = first_s + num_samples / rate
    promised_s = float(length_s) if length_s else last_s
    if last_s < min(promised_s, end_s or promised_s) - _MISSING_SOUND_S:
        raise MediaTruncatedError(
            f"{source.name}: the sound breaks off at {last_s:.3f} s, the header promises "
            f"{promised_s:.3f} s; give end_s <= {last_s:.3f}, fetch the file again or drop "
            f"the sample"
        )
    return AudioClip(_cut(np.concatenate(pieces, axis=1), first_s, start_s, end_s, rate), rate)


def _sound_of(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; a packet that the end of the file cuts in two counts as missing."""
    for packet in container.demux(stream):
        if not packet.is_corrupt:
            yield from packet.decode()


def _cut(
    samples: npt.NDArray[np.float32],
    first_s: float,
    start_s: float | None,
    end_s: float | None,
    rate: int,
) -> npt.NDArray[np.float32]:
    offset = round(((start_s or 0.0) - first_s) * rate)
    if offset < 0:
        samples = np.pad(samples, ((0, 0), (-offset, 0)))
        offset = 0
    stop = samples.shape[1] if end_s is None else offset + round((end_s - (start_s or 0.0)) * rate)
    return np.ascontiguousarray(samples[:, offset:stop], dtype=np.float32)


def _refuse_gaps(
    source: Source, index: FrameIndex, start_s: float | None, end_s: float | None
) -> None:
    """Refuse a range that begins behind the clip or that reaches behind where the file breaks."""
    info = index.info
    if index.is_truncated and (end_s is None or end_s > info.duration_s):
        raise MediaTruncatedError(
            f"{source.name}: breaks off at {info.duration_s:.3f} s: found {info.num_frames} "
            f"frames, the header promises {index.num_promised}; give end_s <= "
            f"{info.duration_s:.3f} to use the intact part, fetch the file again or drop the sample"
        )
    if start_s is not None and start_s >= info.duration_s:
        raise MediaEmptyError(
            f"{source.name}: found no frame from start_s {start_s:.3f} on, the clip ends at "
            f"{info.duration_s:.3f} s; give start_s < {info.duration_s:.3f}"
        )
