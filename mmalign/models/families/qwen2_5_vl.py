"""Qwen2.5-VL and Qwen2-VL: frames in pairs, any size, positions in time, height and width."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

from mmalign.models.families.loading import bare_model
from mmalign.models.families.protocol import DecodedMedia, EncodedPrompt, PreparedMedia
from mmalign.models.families.vision import (
    IMAGE,
    MEDIA_ORDER,
    VIDEO,
    in_order,
    join_orders,
    process_media,
    sequenced,
)
from mmalign.models.families.vision_family import VisionFamily

__all__ = ["Qwen25VL"]


class Qwen25VL(VisionFamily):
    """Adapter around `Qwen2_5_VLForConditionalGeneration` and its predecessor."""

    name = "qwen2_5_vl"
    model_types = frozenset({"qwen2_5_vl", "qwen2_vl"})
    media_keys: tuple[str, ...] = (
        "pixel_values",
        "image_grid_thw",
        "pixel_values_videos",
        "video_grid_thw",
        "second_per_grid_ts",
    )
    """Arguments of the model's forward, joined along their first axis."""
    media_counts: Mapping[str, int] = {"image_grid_thw": IMAGE, "video_grid_thw": VIDEO}
    """Those whose first axis counts media, and the token type of these."""

    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Patches; an odd number of frames is evened by showing the last one twice."""
        features, prepared = process_media(
            processor,
            media,
            cap_pixels_per_frame=_capped(processor),  # None would log a warning
        )
        return replace(
            prepared,
            tensors={
                key: torch.as_tensor(features[key]) for key in self.media_keys if key in features
            },
        )

    def join_media(self, media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Media arguments of several prompts, one after the other."""
        joined = {
            key: torch.cat([item[key] for item in media if key in item])
            for key in self.media_keys
            if any(key in item for item in media)
        }
        order = join_orders(media, self.media_counts)
        return joined if order is None else joined | {MEDIA_ORDER: order}

    def position_ids(self, model: PreTrainedModel, prompt: EncodedPrompt, tail: Tensor) -> Tensor:
        """[3, P + R] by `get_rope_index` over prompt and tail together."""
        ids = torch.cat([prompt.input_ids, tail.to(prompt.input_ids)])
        types = torch.cat([prompt.token_types, torch.zeros_like(tail).to(prompt.token_types)])
        grids = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")
        positions, _ = bare_model(model).model.get_rope_index(
            ids.unsqueeze(0),
            mm_token_type_ids=types.unsqueeze(0),
            **{key: prompt.media[key] for key in grids if key in prompt.media},
        )
        result: Tensor = positions[:, 0]
        return result

    def media_embeds(self, model: PreTrainedModel, media: Mapping[str, Tensor]) -> Tensor:
        """[M, H]: towers by the model's own functions, media in prompt order."""
        inner = bare_model(model).model
        images: Sequence[Tensor] = ()
        videos: Sequence[Tensor] = ()
        if "pixel_values" in media:
            images = self.features_of(
                inner.get_image_features(
                    media["pixel_values"], media["image_grid_thw"], return_dict=True
                )
            )
        if "pixel_values_videos" in media:
            videos = self.features_of(
                inner.get_video_features(
                    media["pixel_values_videos"], media["video_grid_thw"], return_dict=True
                )
            )
        sounds = self.sound_features(model, media)
        if not images and not videos and not sounds:
            return self.no_features(model)
        return in_order(images, videos, media.get(MEDIA_ORDER), sounds=sounds)

    def features_of(self, output: Any) -> Sequence[Tensor]:
        """[m, H] of each picture or clip, from what the model's function returns."""
        features: Sequence[Tensor] = output.pooler_output
        return features

    def sound_features(
        self, model: PreTrainedModel, media: Mapping[str, Tensor]
    ) -> Sequence[Tensor]:
        """[m, H] of each sound; none here, the model does not hear."""
        del model, media
        return ()

    def split_media(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Pictures, sounds, and the steps of each clip's grid: the tower attends within a step."""
        found = sequenced(
            _grid_steps(media, "pixel_values", "image_grid_thw"),
            _grid_steps(media, "pixel_values_videos", "video_grid_thw"),
            media.get(MEDIA_ORDER),
            sounds=[[sound] for sound in self.split_sounds(media)],
        )
        return list(chain.from_iterable(found))

    def split_sounds(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Each sound as media of its own; none here."""
        del media
        return []

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Tokens of one clip or picture: frame pairs times merged patches of the resized frame."""
        part = processor.video_processor if kind == "video" else processor.image_processor
        # a processor may have sizes of its own, which go before those of its parts
        size = getattr(processor, f"{kind}s_kwargs", {}).get("size") or part.size
        factor = part.patch_size * part.merge_size
        most = size["longest_edge"]
        grid_t = 1
        if kind == "video":
            grid_t = -(-num_frames // part.temporal_patch_size)
            if _capped(processor):
                share = int(part.max_video_tokens * factor * factor * 0.9)
                share = share * part.temporal_patch_size // num_frames
                most = max(min(most, share), int(size["shortest_edge"] * 1.05))
        resized = smart_resize(
            height, width, factor, min_pixels=size["shortest_edge"], max_pixels=most
        )
        return int(grid_t * (resized[0] // factor) * (resized[1] // factor))


def _grid_steps(
    media: Mapping[str, Tensor], patches: str, grids: str
) -> list[list[dict[str, Tensor]]]:
    """For each picture or clip, the steps of its grid in time as media of their own."""
    found, start = [], 0
    for num_steps, height, width in media.get(grids, torch.empty(0, 3)).tolist():
        grid = media[grids].new_tensor([[1, height, width]])
        end = start + num_steps * height * width
        steps = torch.split(media[patches][start:end], height * width)
        found.append([{patches: step, grids: grid} for step in steps])
        start = end
    return found


def _capped(processor: Any) -> bool:
    return bool(getattr(processor.video_processor, "cap_pixels_per_frame", None))
