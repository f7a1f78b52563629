"""Read what a `MediaRef` names: the range, the frames, the operations, through the cache."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmalign.errors import ConfigError, MediaCorruptError, MissingStreamError
from mmalign.media.cache import FrameCache, FrameKey
from mmalign.media.clip import AudioClip, Frames, VideoClip
from mmalign.media.decode import decode_audio, decode_video
from mmalign.media.index import probe_audio
from mmalign.media.operators import OPERATORS, apply_operation
from mmalign.media.pool import DecodePool, default_pool
from mmalign.media.readers import DecoderName, decoder_versions
from mmalign.media.sampling import FrameSampling
from mmalign.media.source import Source, content_hash, open_source
from mmalign.records import MediaOperation, MediaRef

__all__ = [
    "apply_operations",
    "audio_num_samples",
    "convert_audio",
    "load_audio",
    "load_image",
    "load_video",
]


def load_video(
    ref: MediaRef,
    sampling: FrameSampling,
    *,
    cache: FrameCache | None = None,
    time_limit_s: float = 30.0,
    decoder: DecoderName = "auto",
    isolate: bool = True,
    pool: DecodePool | None = None,
) -> VideoClip:
    """The frames that a model sees: decoded, sampled, changed by the reference's operations.

    Sampled frames come from the cache where it has them, without starting a process.
    Operations that act after sampling are applied to what was cached.

    Args:
        ref: A video; its range cuts before anything else.
        sampling: Which frames.
        cache: Where to look first and to keep what was decoded.
        time_limit_s: Seconds after which a decoder counts as hung; needs `isolate`.
        decoder: `auto` takes the one that is measured to be faster.
        isolate: Decode in a worker process; False decodes here, without a time limit.
        pool: Workers other than the shared ones.

    Raises:
        MediaError: The file is missing, empty, corrupt, cut off, without picture, or too slow.
        ConfigError: An operation or the sampling does not fit.
    """
    _require_kind(ref, "video")
    source = open_source(ref.uri)
    source_hash = _checked_hash(ref, source)
    before = [item for item in ref.operations if item.stage == "before_sampling"]
    key = FrameKey(
        uri=source.name,
        source_hash=source_hash,
        start_s=ref.start_s,
        end_s=ref.end_s,
        before=tuple(item.model_dump(mode="json") for item in before),
        sampling=sampling.model_dump(mode="json"),
        decoder=decoder,
        versions=decoder_versions(),
    )
    clip = cache.get(key) if cache is not None else None
    if clip is None:
        if isolate:
            uri = _for_worker(source, ref.uri)
            clip = _decode_apart(uri, key, time_limit_s, pool or default_pool())
        else:
            decoded = decode_video(
                ref.uri,
                start_s=ref.start_s,
                end_s=ref.end_s,
                before=before,
                sampling=sampling,
                decoder=decoder,
            )
            clip = VideoClip(**vars(decoded), source_hash=source_hash)
        if cache is not None:
            cache.put(key, clip)

    def load_other(other: MediaRef, like: VideoClip) -> VideoClip:
        return load_video(
            other,
            _same_shape(like),
            cache=cache,
            time_limit_s=time_limit_s,
            decoder=decoder,
            isolate=isolate,
            pool=pool,
        )

    after = [item for item in ref.operations if item.stage == "after_sampling"]
    for item in after:
        other = None if item.other is None else load_other(item.other, clip)
        clip = apply_operation(clip, item, other)
    return clip


def apply_operations(clip: VideoClip, ops: Sequence[MediaOperation]) -> VideoClip:
    """The clip after operations on its sampled frames, in order; a second clip is read from disk.

    Raises:
        ConfigError: An operation does not fit its operator or acts before sampling.
        MediaError: The second clip of a swap cannot be read.
    """
    for item in ops:
        if item.stage != "after_sampling":
            raise ConfigError(
                f"operation {item.name!r}: acts before sampling, found frames that are sampled; "
                f"put it into MediaRef.operations and call load_video"
            )
        other = None if item.other is None else load_video(item.other, _same_shape(clip))
        clip = apply_operation(clip, item, other)
    return clip


def load_audio(
    ref: MediaRef,
    *,
    sample_rate_hz: int = 16_000,
    mono: bool = True,
    time_limit_s: float = 30.0,
    isolate: bool = True,
    pool: DecodePool | None = None,
) -> AudioClip:
    """The sound of an audio or video file in the reference's range.

    Operations of a video leave its sound as it is.

    Args:
        ref: An audio or video.
        sample_rate_hz: Rate to resample to.
        mono: Average the channels into one.
        time_limit_s: Seconds after which the decoder counts as hung; needs `isolate`.
        isolate: Decode in a worker process.
        pool: Workers other than the shared ones.

    Returns:
        [C, N] float32; sample 0 is at `start_s`.

    Raises:
        MediaError: The file is missing, empty, corrupt, cut off, without sound, or too slow.
        ConfigError: An audio reference has operations: all of them act on pictures.
    """
    _require_kind(ref, "audio", "video")
    if ref.kind == "audio" and ref.operations:
        raise ConfigError(
            f"{ref.uri}: found operation {ref.operations[0].name!r} on sound, expected none; "
            f"operations act on pictures"
        )
    source = open_source(ref.uri)
    if ref.content_hash is not None:
        _checked_hash(ref, source)
    if isolate:
        values, samples = (pool or default_pool()).call(
            "audio",
            {"uri": _for_worker(source, ref.uri), "start_s": ref.start_s, "end_s": ref.end_s},
            what=source.name,
            limit_s=time_limit_s,
        )
        clip = AudioClip(samples, values["sample_rate_hz"])
    else:
        clip = decode_audio(ref.uri, start_s=ref.start_s, end_s=ref.end_s)
    return convert_audio(clip, sample_rate_hz=sample_rate_hz, mono=mono)


def audio_num_samples(ref: MediaRef, *, sample_rate_hz: int = 16_000) -> int:
    """Samples of each channel that `load_audio` gives, from the file's header.

    A compressed sound may hold some milliseconds more or less than its header says; one whose
    header says nothing is decoded.

    Raises:
        MediaError: The file is missing, empty, no media, or has no sound in the range.
    """
    info = probe_audio(ref.uri)
    rate = info.sample_rate_hz
    start_s = ref.start_s or 0.0
    num_samples = round(info.duration_s * rate) - round(start_s * rate)
    if ref.end_s is not None:
        num_samples = min(num_samples, round((ref.end_s - start_s) * rate))
    if num_samples <= 0:
        return int(load_audio(ref, sample_rate_hz=sample_rate_hz).waveform.shape[1])
    return -(-num_samples * sample_rate_hz // rate)


def convert_audio(clip: AudioClip, *, sample_rate_hz: int, mono: bool = True) -> AudioClip:
    """A sound at another rate; what has the rate already is left as it is.

    Args:
        clip: Any rate, any channels.
        sample_rate_hz: Rate to resample to.
        mono: Average the channels into one.
    """
    if mono and len(clip.waveform) > 1:
        clip = replace(clip, waveform=clip.waveform.mean(axis=0, keepdims=True))
    return clip if clip.sample_rate_hz == sample_rate_hz else _resample(clip, sample_rate_hz)


def load_image(ref: MediaRef) -> Frames:
    """A picture [H, W, 3] uint8, upright by its EXIF orientation, operations applied.

    Raises:
        MediaError: The file is missing, empty or no picture.
        ConfigError: An operation does not fit.
    """
    _require_kind(ref, "image")
    source = open_source(ref.uri)
    source_hash = _checked_hash(ref, source)
    try:
        with Image.open(source.handle()) as image:
            picture = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError as error:
        raise MediaCorruptError(
            f"{source.name}: Pillow finds no picture, expected PNG, JPEG or the like; "
            f"fetch it again or drop the sample"
        ) from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaCorruptError(
            f"{source.name}: the picture cannot be decoded ({error}); fetch it again or drop "
            f"the sample"
        ) from error
    if not ref.operations:
        return picture
    clip = VideoClip(picture[None], np.zeros(1), np.zeros(1, np.int64), 1.0, "pillow", source_hash)
    for item in ref.operations:
        if OPERATORS.get(item.name) is None or OPERATORS[item.name].paint is not None:
            clip = apply_operation(clip, item)
        else:
            raise ConfigError(f"{ref.uri}: operation {item.name!r} needs a video, found an image")
    changed: Frames = clip.frames[0]
    return changed


def _decode_apart(uri: str, key: FrameKey, time_limit_s: float, pool: DecodePool) -> VideoClip:
    request = {
        "uri": uri,
        "start_s": key.start_s,
        "end_s": key.end_s,
        "before": key.before,
        "sampling": key.sampling,
        "decoder": key.decoder,
    }
    values, frames = pool.call("video", request, what=key.uri, limit_s=time_limit_s)
    return VideoClip(
        frames=frames,
        timestamps_s=np.array(values["timestamps_s"], dtype=np.float64),
        indices=np.array(values["indices"], dtype=np.int64),
        fps=values["fps"],
        decoder=values["decoder"],
        source_hash=key.source_hash,
    )


def _for_worker(source: Source, uri: str) -> str:
    """A worker may have started in another folder."""
    return uri if source.path is None else str(source.path.absolute())


def _resample(clip: AudioClip, sample_rate_hz: int) -> AudioClip:
    import torch
    import torchaudio.functional  # seconds to import: only where rates differ

    resampled = torchaudio.functional.resample(
        torch.from_numpy(clip.waveform), clip.sample_rate_hz, sample_rate_hz
    )
    return AudioClip(np.asarray(resampled.numpy(), dtype=np.float32), sample_rate_hz)


def _same_shape(clip: VideoClip) -> FrameSampling:
    num_frames, height, width = clip.frames.shape[:3]
    return FrameSampling(num_frames=num_frames, resize=(height, width))


def _checked_hash(ref: MediaRef, source: Source) -> str:
    found = content_hash(source)
    if ref.content_hash not in (None, found):
        raise MediaCorruptError(
            f"{source.name}: found content {found}, the record expects {ref.content_hash}: the "
            f"file has changed since; restore it or build the records again"
        )
    return found


def _require_kind(ref: MediaRef, *kinds: str) -> None:
    if ref.kind not in kinds:
        raise MissingStreamError(
            f"{ref.uri[:80]}: found a {ref.kind} reference, expected {' or '.join(kinds)}; "
            f"read it with load_{ref.kind}"
        )
