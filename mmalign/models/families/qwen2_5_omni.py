"""The thinker of Qwen2.5-Omni: text, pictures, clips and sound; positions in three axes.

Left out: the sound of a clip interleaved with its frames. A clip is frames, its sound is a medium
of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen2_5OmniThinkerForConditionalGeneration

from mmalign.errors import CapabilityError
from mmalign.media import VideoClip
from mmalign.models.families.loading import bare_model
from mmalign.models.families.protocol import DecodedMedia, EncodedPrompt, PreparedMedia
from mmalign.models.families.qwen2_5_vl import Qwen25VL
from mmalign.models.families.sound import (
    FEATURE_MASK,
    FEATURES,
    join_sounds,
    sound_token_count,
    split_sounds,
)
from mmalign.models.families.vision import AUDIO, IMAGE, VIDEO, sampled_fps

__all__ = ["Qwen25Omni"]

_SECONDS = "video_second_per_grid"


class Qwen25Omni(Qwen25VL):
    """Adapter around `Qwen2_5OmniThinkerForConditionalGeneration`; it sees as Qwen2.5-VL does."""

    name = "qwen2_5_omni"
    model_types = frozenset({"qwen2_5_omni", "qwen2_5_omni_thinker"})
    model_class = Qwen2_5OmniThinkerForConditionalGeneration
    media_keys = (
        "pixel_values",
        "image_grid_thw",
        "pixel_values_videos",
        "video_grid_thw",
        _SECONDS,
        FEATURES,
        FEATURE_MASK,
    )
    media_counts = {"image_grid_thw": IMAGE, "video_grid_thw": VIDEO, FEATURE_MASK: AUDIO}

    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Patches and spectra; the seconds of a clip's grid are those of its own frames.

        Raises:
            CapabilityError: The processor is set to interleave clips with their sound.
        """
        if processor.load_audio_from_video:
            raise CapabilityError(
                "the processor sets load_audio_from_video: the tokens of a clip and of its sound "
                "would alternate in chunks of time, which training does not lay out. Switch it "
                "off and give the sound as an audio part of the message"
            )
        prepared = super().prepare_media(processor, media)
        tensors = dict(prepared.tensors)
        if _SECONDS in tensors:
            # the processor takes one rate, 2 frames a second by default, for all clips
            patch = processor.video_processor.temporal_patch_size
            clips = [item for item in media if isinstance(item, VideoClip)]
            tensors[_SECONDS] = torch.tensor([patch / sampled_fps(clip) for clip in clips])
        if FEATURES in tensors:  # padded to the longest sound that the processor takes
            longest = int(tensors[FEATURE_MASK].sum(-1).max())
            for key in (FEATURES, FEATURE_MASK):
                tensors[key] = tensors[key][..., :longest].clone()
        return replace(prepared, tensors=tensors)

    def join_media(self, media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Patches, grids, seconds and spectra of several prompts, one after the other."""
        return super().join_media(join_sounds(media))

    def position_ids(self, model: PreTrainedModel, prompt: EncodedPrompt, tail: Tensor) -> Tensor:
        """[3, P + R] by the thinker's own `get_rope_index` over prompt and tail together."""
        ids = torch.cat([prompt.input_ids, tail.to(prompt.input_ids)]).unsqueeze(0)
        mask = prompt.media.get(FEATURE_MASK)
        positions, _ = bare_model(model).model.get_rope_index(
            ids,
            image_grid_thw=prompt.media.get("image_grid_thw"),
            video_grid_thw=prompt.media.get("video_grid_thw"),
            attention_mask=torch.ones_like(ids),
            audio_seqlens=None if mask is None else mask.sum(-1),
            second_per_grids=prompt.media.get(_SECONDS),
        )
        result: Tensor = positions[:, 0]
        return result

    def sound_features(
        self, model: PreTrainedModel, media: Mapping[str, Tensor]
    ) -> Sequence[Tensor]:
        """[m, H] of each sound by the model's own function, which drops the padding."""
        if FEATURES not in media:
            return ()
        inner = bare_model(model).model
        states: Tensor = inner.get_audio_features(
            media[FEATURES], media[FEATURE_MASK], return_dict=True
        ).last_hidden_state
        _, num_tokens = inner.audio_tower._get_feat_extract_output_lengths(
            media[FEATURE_MASK].sum(-1)
        )
        return list(torch.split(states, num_tokens.tolist()))

    def split_sounds(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Each sound without the padding that longer ones beside it asked for."""
        return [
            {key: value[..., : int(sound[FEATURE_MASK].sum())] for key, value in sound.items()}
            for sound in split_sounds(media)
        ]

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Tokens of one clip or picture, or of one sound of `num_frames` samples."""
        if kind == "audio":
            return sound_token_count(processor, num_frames)
        return super().media_token_count(
            processor, kind, num_frames=num_frames, height=height, width=width
        )
