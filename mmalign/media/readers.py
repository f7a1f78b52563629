"""Decode chosen frames of a file with PyAV or decord: the same frames, upright, from both."""

import functools
import importlib.metadata
import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from mmalign.errors import MediaCorruptError
from mmalign.media.clip import Frames
from mmalign.media.index import FrameIndex, media_errors, video_stream
from mmalign.media.source import Source

__all__ = [
    "DecoderName",
    "ReadFrames",
    "Run",
    "decoder_versions",
    "decord_misreads",
    "read_decord",
    "read_frames",
    "read_pyav",
    "runs_of",
]

DecoderName = Literal["auto", "decord", "pyav"]

SEEK_GAIN_FRAMES = 3
"""A seek costs about as much as decoding this many frames: flush, re-read, refill.

Measured by benchmarks/decode.py: 64 x 64 pixels, every frame a key frame, 0.15 ms against 0.05 ms
a frame; with larger frames a seek costs less than two.
"""

# `auto` is PyAV. benchmarks/decode.py (two x86-64 cores, PyAV 18.1, decord 0.6, H.264 of 64 to 720
# lines, key frames 1 to 250 apart, strides 2 to 75) finds it sooner than decord in every row, by
# 1.3 to 24 times in CPU time, once two things hold that decord lacks: it jumps by `runs_of`
# where key frames lie closer together than wanted frames and decodes on where they do not, and it
# leaves out frames that nothing refers to. decord is there by name, to compare with.
AUTO: Literal["decord", "pyav"] = "pyav"

_NUM_THREADS = 2

_DECORD_MIN_WIDTH = 64
"""It takes the padding of shorter rows for a fourth colour."""

_DECORD_CONTAINERS = ("mp4", "matroska")
"""In transport streams its frame numbers are off by a group of pictures, in AVI by reordering."""

_SMALL_PIXELS = 320 * 240
"""Below it starting decoder threads costs more than they save."""


class ReadFrames(NamedTuple):
    """Decoded frames and who decoded them."""

    frames: Frames
    decoder: str


def read_frames(
    source: Source,
    index: FrameIndex,
    wanted: npt.NDArray[np.int64],
    *,
    size: tuple[int, int] | None,
    decoder: DecoderName,
) -> ReadFrames:
    """The frames with the given numbers, in the given order, repeats allowed.

    Args:
        source: The file.
        index: Its frames.
        wanted: [F] frame numbers in presentation order.
        size: Height and width to scale to while converting colours.
        decoder: `auto` takes the faster one.

    Raises:
        MediaError: A wanted frame cannot be decoded; the message says at what time.
    """
    unique, places = np.unique(wanted, return_inverse=True)
    chosen = AUTO if decoder == "auto" else decoder
    read = read_decord if chosen == "decord" else read_pyav
    frames = read(source, index, unique, size)
    repeated = len(unique) != len(wanted) or bool(np.any(unique != wanted))
    return ReadFrames(frames[places] if repeated else frames, _named(chosen))


@functools.cache
def decoder_versions() -> dict[str, str]:
    """Installed decoders; part of a cached frame's key."""
    versions = {"pyav": av.__version__}
    if importlib.util.find_spec("decord") is not None:
        versions["decord"] = importlib.metadata.version("decord")
    return versions


class Run(NamedTuple):
    """Frames that one stretch of decoding passes by."""

    key_frame: int
    """Where decoding starts; 0 is the start of the file."""
    wanted: list[int]


def runs_of(wanted: Sequence[int], key_frames: Sequence[int]) -> list[Run]:
    """Split rising frame numbers where jumping to a key frame beats decoding on."""
    keys = np.asarray(key_frames if key_frames else [0])
    runs: list[Run] = []
    position = 0
    for number in wanted:
        key = int(keys[max(int(np.searchsorted(keys, number, side="right")) - 1, 0)])
        if not runs or key > position + SEEK_GAIN_FRAMES:
            runs.append(Run(key if key > position + SEEK_GAIN_FRAMES else 0, []))
        runs[-1].wanted.append(number)
        position = number + 1
    return runs


def read_pyav(
    source: Source,
    index: FrameIndex,
    wanted: npt.NDArray[np.int64],
    size: tuple[int, int] | None,
    plan: Sequence[Run] | None = None,
) -> Frames:
    """Rising frame numbers by PyAV; `plan` replaces what `runs_of` says, for measurements."""
    height, width = size or (index.info.height, index.info.width)
    frames = np.empty((len(wanted), height, width, 3), dtype=np.uint8)
    row_of = {int(number): row for row, number in enumerate(wanted)}
    key_frames = index.info.key_frames if index.seekable else ()
    # the second attempt is for a seek that landed behind its key frame
    for runs in (plan or runs_of(list(row_of), key_frames), None):
        with media_errors(source), av.open(source.handle(), "r") as container:
            for run in runs or [Run(0, sorted(row_of))]:
                for number, picture in _decode(container, source, index, run, (height, width)):
                    frames[row_of.pop(number)] = picture
        if not row_of:
            return frames
    raise _undecodable(source, index, sorted(row_of))


def _decode(
    container: Any, source: Source, index: FrameIndex, run: Run, size: tuple[int, int]
) -> Iterator[tuple[int, Frames]]:
    stream = video_stream(container, source)
    codec = stream.codec_context
    if not codec.is_open:
        small = codec.width * codec.height <= _SMALL_PIXELS
        codec.thread_count = 1 if small else _NUM_THREADS
        stream.thread_type = "NONE" if small else "AUTO"
    if run.key_frame:
        container.seek(int(index.pts[run.key_frame]), stream=stream)
    number_of = {int(index.pts[number]): number for number in run.wanted}
    counted = itertools.count()
    converter = VideoReformatter()  # kept: its tables cost as much as decoding a small frame
    left = set(run.wanted)
    turns = index.info.rotation // 90
    height, width = size if turns % 2 == 0 else size[::-1]
    for packet in container.demux(stream):
        if packet.is_corrupt:
            continue  # the index does not count it either
        if index.seekable:
            # frames that nothing refers to and nobody wants are not decoded: half of the work
            codec.skip_frame = "DEFAULT" if packet.pts in number_of else "NONREF"
        for frame in _frames_of(packet, source, index):
            number = number_of.get(frame.pts) if index.seekable else next(counted)
            if number not in left or (index.seekable and frame.is_corrupt):
                continue
            left.discard(number)
            picture = converter.reformat(frame, width, height, "rgb24", threads=1)
            pixels = np.asarray(picture.to_ndarray(), dtype=np.uint8)
            yield number, np.rot90(pixels, turns) if turns else pixels
        if not left:
            return


def _frames_of(packet: Any, source: Source, index: FrameIndex) -> list[Any]:
    try:
        return packet.decode()  # type: ignore[no-any-return]  # PyAV's stubs leave it open
    except av.error.FFmpegError as error:
        time_s = 0.0
        if packet.pts is not None:
            nearest = min(int(np.searchsorted(index.pts, packet.pts)), len(index.pts) - 1)
            time_s = float(index.timestamps_s[nearest])
        raise MediaCorruptError(
            f"{source.name}: a packet at {time_s:.3f} s cannot be decoded ({error.strerror}); "
            f"end the time range before it, fetch the file again or drop the sample"
        ) from error


def read_decord(
    source: Source, index: FrameIndex, wanted: npt.NDArray[np.int64], size: tuple[int, int] | None
) -> Frames:
    """Rising frame numbers by decord."""
    import decord  # loads FFmpeg a second time: only where it is used

    decord.logging.set_level(decord.logging.QUIET)
    height, width = size or (-1, -1)
    problem = decord_misreads(index, size)
    if problem is not None:
        raise MediaCorruptError(f"{source.name}: decord misreads {problem}; use decoder='pyav'")
    small = index.info.width * index.info.height <= _SMALL_PIXELS
    try:
        reader = decord.VideoReader(
            source.handle(), width=width, height=height, num_threads=1 if small else _NUM_THREADS
        )
        found = len(reader)
        if found == index.info.num_frames:
            return np.asarray(reader.get_batch(wanted).asnumpy(), dtype=np.uint8)
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MediaCorruptError(
            f"{source.name}: decord cannot read it ({reason}); try decoder='pyav'"
        ) from error
    raise MediaCorruptError(
        f"{source.name}: decord counts {found} frames, the packets hold {index.info.num_frames}; "
        f"its frame numbers would be wrong. Use decoder='pyav'"
    )


def _undecodable(source: Source, index: FrameIndex, missing: Sequence[int]) -> MediaCorruptError:
    time_s = float(index.timestamps_s[missing[0]])
    return MediaCorruptError(
        f"{source.name}: frame {missing[0]} at {time_s:.3f} s and {len(missing) - 1} further "
        f"wanted frames do not decode, expected {index.info.num_frames} good frames; end the "
        f"time range before {time_s:.3f} s, fetch the file again or drop the sample"
    )


def decord_misreads(index: FrameIndex, size: tuple[int, int] | None) -> str | None:
    """What makes decord 0.6 return wrong pixels or frames without an error, if anything does."""
    width = index.info.width if size is None else min(index.info.width, size[1])
    if width < _DECORD_MIN_WIDTH:
        return f"frames narrower than {_DECORD_MIN_WIDTH} pixels, found {width}"
    if not any(name in index.container.split(",") for name in _DECORD_CONTAINERS):
        return f"frame numbers of {index.container} files"
    return None


def _named(decoder: str) -> str:
    return f"{decoder}-{decoder_versions()[decoder]}"
