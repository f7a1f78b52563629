"""Qwen2-Audio: sounds of up to half a minute, plain positions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen2AudioForConditionalGeneration
from transformers.masking_utils import create_bidirectional_mask

from mmalign.errors import CapabilityError
from mmalign.models.families.loading import bare_model
from mmalign.models.families.protocol import DecodedMedia, PreparedMedia
from mmalign.models.families.sound import (
    FEATURE_MASK,
    FEATURES,
    sound_token_count,
    split_sounds,
)
from mmalign.models.families.vision import process_media
from mmalign.models.families.vision_family import VisionFamily

__all__ = ["Qwen2Audio"]


class Qwen2Audio(VisionFamily):
    """Adapter around `Qwen2AudioForConditionalGeneration`."""

    name = "qwen2_audio"
    model_types = frozenset({"qwen2_audio"})
    model_class = Qwen2AudioForConditionalGeneration

    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Spectra, padded with silence to the one length that the tower takes."""
        features, prepared = process_media(processor, media)
        return replace(
            prepared, tensors={key: torch.as_tensor(value) for key, value in features.items()}
        )

    def join_media(self, media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Spectra of several prompts, one after the other."""
        heard = [item for item in media if item]
        if not heard:
            return {}
        return {key: torch.cat([item[key] for item in heard]) for key in (FEATURES, FEATURE_MASK)}

    def media_embeds(self, model: PreTrainedModel, media: Mapping[str, Tensor]) -> Tensor:
        """[M, H]: tower and projector; steps of padding neither attend nor become tokens.

        The class has no function of its own for it: its forward computes features inline.
        """
        if FEATURES not in media:
            return self.no_features(model)
        inner = bare_model(model).model
        tower = inner.audio_tower
        features = media[FEATURES].to(tower.device)
        num_steps, num_tokens = tower._get_feat_extract_output_lengths(
            media[FEATURE_MASK].sum(-1).to(tower.device)
        )
        all_steps = torch.arange((features.shape[-1] - 2) // 2 + 1, device=tower.device)
        mask = create_bidirectional_mask(
            config=tower.config,
            inputs_embeds=tower.conv1.weight.new_zeros(len(features), len(all_steps), 1),
            attention_mask=(all_steps < num_steps[:, None]).long(),
        )
        states = inner.multi_modal_projector(tower(features, attention_mask=mask).last_hidden_state)
        return torch.cat(
            [sound[:count] for sound, count in zip(states, num_tokens.tolist(), strict=True)]
        )

    def split_media(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Sounds."""
        return split_sounds(media)

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Tokens of a sound of `num_frames` samples.

        Raises:
            CapabilityError: It is no sound, or the model cannot hear it whole.
        """
        del height, width
        if kind != "audio":
            raise CapabilityError(
                f"the model reads sound, it has no tokens for a {kind}; choose one that sees"
            )
        return sound_token_count(processor, num_frames)
