"""Decode video, sound and pictures; choose frames; change them by operations that are data."""

from mmalign.media.cache import CacheEntry, FrameCache, FrameKey
from mmalign.media.clip import AudioClip, AudioInfo, Frames, VideoClip, VideoInfo, same_clip
from mmalign.media.folders import cache_folder, default_cache
from mmalign.media.index import probe, probe_audio
from mmalign.media.load import (
    apply_operations,
    audio_num_samples,
    convert_audio,
    load_audio,
    load_image,
    load_video,
)
from mmalign.media.operators import GREY, LIGHT_GREY, OPERATORS, Operator, operation
from mmalign.media.pool import DecodePool
from mmalign.media.sampling import FrameSampling, sample_indices
from mmalign.media.source import file_hash
from mmalign.media.write import write_video

__all__ = [
    "GREY",
    "LIGHT_GREY",
    "OPERATORS",
    "AudioClip",
    "AudioInfo",
    "CacheEntry",
    "DecodePool",
    "FrameCache",
    "FrameKey",
    "FrameSampling",
    "Frames",
    "Operator",
    "VideoClip",
    "VideoInfo",
    "apply_operations",
    "audio_num_samples",
    "cache_folder",
    "convert_audio",
    "default_cache",
    "file_hash",
    "load_audio",
    "load_image",
    "load_video",
    "operation",
    "probe",
    "probe_audio",
    "same_clip",
    "sample_indices",
    "write_video",
]
