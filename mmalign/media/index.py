"""What a video file holds, from its packets alone: every frame's time, every key frame.

Frames are numbered in presentation order. Left out: several pictures in one file (the first
video stream counts) and display matrices that mirror or shear.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from mmalign.errors import (
    MediaCorruptError,
    MediaEmptyError,
    MediaTruncatedError,
    MissingStreamError,
)
from mmalign.media.clip import AudioInfo, VideoInfo
from mmalign.media.source import Source, open_source

__all__ = [
    "FrameIndex",
    "audio_stream",
    "index_video",
    "media_errors",
    "origin_s",
    "probe",
    "probe_audio",
    "video_stream",
]


@dataclass(frozen=True)
class FrameIndex:
    """Where each frame of a file is."""

    info: VideoInfo
    pts: npt.NDArray[np.int64]
    """[N] presentation times in ticks of the stream, rising; frame k is the k-th."""
    timestamps_s: npt.NDArray[np.float64]
    """[N] seconds from the start of the file."""
    num_promised: int
    """Frames that the header counts; 0 where it does not say."""
    container: str
    """FFmpeg's name of the file format."""
    seekable: bool
    """False where packets carry no usable times: frames can only be counted from the start."""

    @property
    def is_truncated(self) -> bool:
        """The header counts more frames than there are."""
        return self.num_promised > self.info.num_frames


def probe(uri: str) -> VideoInfo:
    """What a video file holds, read from its packets without decoding.

    Raises:
        MediaError: The file is missing, empty, no media, or has no picture.
    """
    return index_video(open_source(uri)).info


def probe_audio(uri: str) -> AudioInfo:
    """What the header says about a file's sound.

    Raises:
        MediaError: The file is missing, empty, no media, or has no sound.
    """
    source = open_source(uri)
    with media_errors(source), av.open(source.handle(), "r") as container:
        stream = audio_stream(container, source)
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        else:
            duration_s = (container.duration or 0) / av.time_base
        return AudioInfo(
            path=source.name,
            duration_s=duration_s,
            sample_rate_hz=stream.rate,
            num_channels=stream.channels,
            codec=stream.codec_context.name,
        )


def index_video(source: Source) -> FrameIndex:
    """The frames of a file in presentation order.

    Raises:
        MediaError: No media, no picture, or a picture stream without a single frame.
    """
    with media_errors(source), av.open(source.handle(), "r") as container:
        stream = video_stream(container, source)
        tick = stream.time_base or Fraction(1, av.time_base)
        stream.thread_type = "NONE"
        rotation = None if _may_rotate(container) else 0
        packets, read_to = [], None
        for packet in container.demux(stream):
            if rotation is None:
                rotation = _rotation(packet)
            if packet.size and not packet.is_discard and not packet.is_corrupt:
                packets.append((packet.pts, packet.is_keyframe, packet.duration or 0))
                read_to = packet.dts
        if not packets:
            raise _no_frames(source, stream)
        times = [pts for pts, _, _ in packets]
        seekable = None not in times and len(set(times)) == len(times)
        if not seekable:
            packets = _times_by_decoding(source, tick)
        promised = _promised(stream, len(packets))
        if promised > len(packets) and read_to is not None:
            # what comes later in the file is shown later than this: no frame is missing before
            packets = [packet for packet in packets if packet[0] <= read_to] or packets[:1]
        packets.sort(key=lambda packet: packet[0])
        pts = np.array([packet[0] for packet in packets], dtype=np.int64)
        last = packets[-1][2] or (int(np.median(np.diff(pts))) if len(pts) > 1 else 1)
        begin_s = origin_s(container)
        turned = (rotation or 0) % 180 != 0
        width, height = stream.codec_context.width, stream.codec_context.height
        info = VideoInfo(
            path=source.name,
            num_frames=len(pts),
            fps=float(len(pts) / ((int(pts[-1] - pts[0]) + last) * tick)),
            duration_s=float((int(pts[-1]) + last) * tick) - begin_s,
            width=height if turned else width,
            height=width if turned else height,
            rotation=rotation or 0,
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
            key_frames=tuple(number for number, packet in enumerate(packets) if packet[1]),
        )
        return FrameIndex(
            info=info,
            pts=pts,
            timestamps_s=pts * tick.numerator / tick.denominator - begin_s,
            num_promised=promised,
            container=container.format.name,
            seekable=seekable,
        )


@contextmanager
def media_errors(source: Source) -> Iterator[None]:
    """Turn what FFmpeg reports into our errors, once, where the file is named."""
    try:
        yield
    except av.error.InvalidDataError as error:
        raise MediaCorruptError(
            f"{source.name}: FFmpeg finds no valid media ({error.strerror}), expected a video, "
            f"sound or picture file; it may be cut before its header or be something else. "
            f"Fetch it again or drop the sample"
        ) from error
    except av.error.FFmpegError as error:
        raise MediaCorruptError(
            f"{source.name}: FFmpeg cannot read it ({error.strerror}); fetch it again or drop "
            f"the sample"
        ) from error


def video_stream(container: Any, source: Source) -> Any:
    """The first stream of moving pictures; a cover picture of a song is none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise _no_stream(container, source, "a video stream; refer to it as audio")


def audio_stream(container: Any, source: Source) -> Any:
    """The first stream of sound."""
    if container.streams.audio:
        return container.streams.audio[0]
    raise _no_stream(container, source, "an audio stream; do not ask for sound here")


def origin_s(container: Any) -> float:
    """Time on the container's clock that counts as 0 s (transport streams start later)."""
    return max(0, container.start_time or 0) / av.time_base


def _no_stream(
    container: Any, source: Source, expected: str
) -> MediaCorruptError | MissingStreamError:
    kinds = sorted({stream.type for stream in container.streams})
    if not kinds:
        return MediaCorruptError(
            f"{source.name}: FFmpeg finds no stream in it, expected {expected}; it may be cut "
            f"before its header ends. Fetch it again or drop the sample"
        )
    return MissingStreamError(
        f"{source.name}: found only streams of type {', '.join(kinds)}, expected {expected}, or "
        f"drop the sample"
    )


def _promised(stream: Any, num_found: int) -> int:
    """Frames that the header counts; containers without a count give the length instead."""
    if stream.frames:
        return int(stream.frames)
    stated = stream.metadata.get("DURATION")  # Matroska: 00:00:12.480000000
    if stated and stream.average_rate:
        hours, minutes, seconds = stated.split(":")
        length_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        # a variable rate makes this a guess, so only a clear gap counts
        expected = int(length_s * stream.average_rate)
        return expected if expected > num_found * 1.05 + 2 else 0
    return 0


def _times_by_decoding(source: Source, tick: Fraction) -> list[tuple[int, bool, int]]:
    found: list[tuple[int, bool, int]] = []
    with av.open(source.handle(), "r") as container:
        stream = video_stream(container, source)
        step = int(1 / ((stream.average_rate or Fraction(25)) * tick)) or 1
        for frame in container.decode(stream):
            # times that do not rise are made up from the rate, as players do
            earliest = found[-1][0] + step if found else 0
            pts = frame.pts if frame.pts is not None and frame.pts >= earliest else earliest
            found.append((pts, bool(frame.key_frame), step))
    if not found:
        raise MediaEmptyError(
            f"{source.name}: the video stream has packets but no frame decodes; drop the sample"
        )
    return found


def _may_rotate(container: Any) -> bool:
    """Only these formats carry a display matrix; in the others no frame need be decoded."""
    return any(name in container.format.name for name in ("mov", "mp4", "matroska"))


def _rotation(packet: Any) -> int | None:
    """The turn that the first decoded frame asks for; None until a packet gives a frame."""
    try:
        for frame in packet.decode():
            return int(round(frame.rotation / 90) * 90 % 360)
    except av.error.FFmpegError:
        return 0  # who reads the frames will say at what time they break
    return None


def _no_frames(source: Source, stream: Any) -> MediaEmptyError | MediaTruncatedError:
    if stream.frames:
        return MediaTruncatedError(
            f"{source.name}: breaks off at 0.000 s: found 0 frames, the header promises "
            f"{stream.frames}; fetch it again or drop the sample"
        )
    return MediaEmptyError(
        f"{source.name}: the video stream has no frames, expected at least 1; drop the sample"
    )
