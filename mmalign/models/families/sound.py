"""What the families that hear have in common: sound at the processor's rate, features, tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import CapabilityError
from mmalign.media import AudioClip, convert_audio

__all__ = [
    "FEATURES",
    "FEATURE_MASK",
    "join_sounds",
    "sound_rate_hz",
    "sound_token_count",
    "split_sounds",
    "waveforms",
]

FEATURES = "input_features"
"""Key of the media mapping: [N, mel, frames] of each sound, zeros behind shorter ones."""
FEATURE_MASK = "feature_attention_mask"
"""Key of the media mapping: [N, frames], 1 where a frame belongs to the sound."""


def sound_rate_hz(processor: Any) -> int:
    """Samples per second that a processor wants.

    Raises:
        CapabilityError: It takes no sound.
    """
    if not hasattr(processor, "feature_extractor"):
        raise CapabilityError(
            f"{type(processor).__name__} reads no sound; remove the audio or choose a model that "
            f"hears"
        )
    return int(processor.feature_extractor.sampling_rate)


def waveforms(processor: Any, clips: Sequence[AudioClip]) -> list[npt.NDArray[np.float32]]:
    """[N] samples of each sound, one channel, at the processor's rate.

    Raises:
        CapabilityError: A sound is longer than the model hears, or shorter than a token.
    """
    found = []
    for clip in clips:
        samples = convert_audio(clip, sample_rate_hz=sound_rate_hz(processor)).waveform[0]
        sound_token_count(processor, len(samples))  # refuses what would be cut
        found.append(samples)
    return found


def sound_token_count(processor: Any, num_samples: int) -> int:
    """Tokens of a sound: a step of the tower stands for two frames, a token for two steps.

    Args:
        processor: Gives the frames' hop, and its own `steps_per_token` where it has one.
        num_samples: One channel, at the processor's rate.

    Raises:
        CapabilityError: The processor would cut the sound, or it is shorter than a token.
    """
    extractor = processor.feature_extractor
    if num_samples > extractor.n_samples:
        raise CapabilityError(
            f"a sound lasts {num_samples / extractor.sampling_rate:.2f} s, the model hears at "
            f"most {extractor.chunk_length} s and nothing is ever cut. Give its reference an "
            f"end_s at most {extractor.chunk_length} s behind its start_s"
        )
    num_frames = -(-num_samples // extractor.hop_length)
    num_steps = (num_frames - 1) // 2 + 1
    num_tokens = num_steps // getattr(processor, "steps_per_token", 2)
    if num_tokens < 1:
        raise CapabilityError(
            f"a sound of {num_samples / extractor.sampling_rate:.4f} s is shorter than one token "
            f"of the model; give its reference a longer range, or drop the record"
        )
    return int(num_tokens)


def split_sounds(media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Each sound of one prompt as media of its own, as long as it came."""
    return [
        {key: media[key][place : place + 1] for key in (FEATURES, FEATURE_MASK)}
        for place in range(len(media.get(FEATURES, ())))
    ]


def join_sounds(media: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The same media with all features as long as the longest, ready to be joined."""
    lengths = [item[FEATURE_MASK].shape[1] for item in media if FEATURE_MASK in item]
    joined = []
    for item in media:
        padded = dict(item)
        if FEATURE_MASK in item:
            missing = max(lengths) - item[FEATURE_MASK].shape[1]
            padded |= {key: F.pad(item[key], (0, missing)) for key in (FEATURES, FEATURE_MASK)}
        joined.append(padded)
    return joined
