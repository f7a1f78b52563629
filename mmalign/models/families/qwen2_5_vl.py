"""Qwen2.5-VL and Qwen2-VL: frames in pairs, any size, positions in time, height and width."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

from mmalign.models.families.chat import encode_answer, template_render
from mmalign.models.families.loading import bare_model, linear_names, load_model, load_processor
from mmalign.models.families.protocol import (
    DecodedMedia,
    EncodedCompletion,
    EncodedPrompt,
    PreparedMedia,
)
from mmalign.models.families.vision import (
    IMAGE,
    MEDIA_ORDER,
    VIDEO,
    encode_chat,
    in_order,
    join_orders,
    process_media,
)
from mmalign.records import Message

__all__ = ["Qwen25VL"]

_KEYS = (
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)
"""Arguments of the model's forward, joined along their first axis."""


class Qwen25VL:
    """Adapter around `Qwen2_5_VLForConditionalGeneration` and its predecessor."""

    name = "qwen2_5_vl"
    model_types = frozenset({"qwen2_5_vl", "qwen2_vl"})

    def load(
        self,
        path: str,
        *,
        dtype: torch.dtype,
        device: str,
        revision: str | None = None,
        attn_implementation: str | None = None,
    ) -> tuple[PreTrainedModel, Any]:
        """Model (eval mode) and processor from a folder or hub name."""
        model = load_model(
            AutoModelForImageTextToText,
            path,
            dtype=dtype,
            device=device,
            revision=revision,
            attn_implementation=attn_implementation,
        )
        return model, load_processor(AutoProcessor, path, revision=revision)

    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Patches; an odd number of frames is evened by showing the last one twice."""
        features, prepared = process_media(
            processor,
            media,
            cap_pixels_per_frame=_capped(processor),  # None would log a warning
        )
        return replace(
            prepared,
            tensors={key: torch.as_tensor(features[key]) for key in _KEYS if key in features},
        )

    def encode_prompt(
        self,
        processor: Any,
        messages: Sequence[Message],
        media: Sequence[DecodedMedia] | PreparedMedia,
        *,
        tools: Sequence[str] = (),
    ) -> EncodedPrompt:
        """Ids and tensors of a prompt that ends where the assistant's answer begins."""
        if not isinstance(media, PreparedMedia):
            media = self.prepare_media(processor, media)
        return encode_chat(processor, messages, media, tools=tools)

    def encode_completion(
        self, processor: Any, messages: Sequence[Message], completion: Sequence[Message]
    ) -> EncodedCompletion:
        """Ids of the assistant turns that answer `messages`, end of turn included."""
        return encode_answer(
            processor.tokenizer,
            template_render(processor, with_parts=True),
            messages,
            completion,
            add_special_tokens=False,
            media_token_ids=(processor.image_token_id, processor.video_token_id),
        )

    def join_media(self, media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Patches, grids and seconds of several prompts, one after the other."""
        joined = {
            key: torch.cat([item[key] for item in media if key in item])
            for key in _KEYS
            if any(key in item for item in media)
        }
        order = join_orders(media, {"image_grid_thw": IMAGE, "video_grid_thw": VIDEO})
        return joined if order is None else joined | {MEDIA_ORDER: order}

    def position_ids(self, model: PreTrainedModel, prompt: EncodedPrompt, tail: Tensor) -> Tensor:
        """[3, P + R] by `get_rope_index` over prompt and tail together."""
        ids = torch.cat([prompt.input_ids, tail.to(prompt.input_ids)])
        types = torch.cat([prompt.token_types, torch.zeros_like(tail).to(prompt.token_types)])
        positions, _ = bare_model(model).model.get_rope_index(
            ids.unsqueeze(0),
            mm_token_type_ids=types.unsqueeze(0),
            image_grid_thw=prompt.media.get("image_grid_thw"),
            video_grid_thw=prompt.media.get("video_grid_thw"),
            second_per_grid_ts=prompt.media.get("second_per_grid_ts"),
        )
        result: Tensor = positions[:, 0]
        return result

    def media_embeds(self, model: PreTrainedModel, media: Mapping[str, Tensor]) -> Tensor:
        """[M, H]: tower and patch merger by the model's own functions."""
        inner = bare_model(model).model
        images: Sequence[Tensor] = ()
        videos: Sequence[Tensor] = ()
        if "pixel_values" in media:
            images = inner.get_image_features(
                media["pixel_values"], media["image_grid_thw"], return_dict=True
            ).pooler_output
        if "pixel_values_videos" in media:
            videos = inner.get_video_features(
                media["pixel_values_videos"], media["video_grid_thw"], return_dict=True
            ).pooler_output
        if not images and not videos:
            weight = self.embed_tokens(model).weight
            assert isinstance(weight, Tensor)
            return weight.new_empty(0, weight.shape[1])
        return in_order(images, videos, media.get(MEDIA_ORDER))

    def embed_tokens(self, model: PreTrainedModel) -> nn.Module:
        """The token embedding."""
        module: nn.Module = bare_model(model).get_input_embeddings()
        return module

    def decoder(self, model: PreTrainedModel) -> nn.Module:
        """The text decoder without the vocabulary head."""
        module: nn.Module = bare_model(model).model.language_model
        return module

    def head(self, model: PreTrainedModel) -> nn.Module:
        """The vocabulary head."""
        module: nn.Module = bare_model(model).lm_head
        return module

    def language_linears(self, model: PreTrainedModel) -> list[str]:
        """Full names of the decoder's linear layers."""
        return linear_names(bare_model(model), self.decoder(model))

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Tokens of one clip or picture: frame pairs times merged patches of the resized frame."""
        part = processor.video_processor if kind == "video" else processor.image_processor
        factor = part.patch_size * part.merge_size
        most = part.size["longest_edge"]
        grid_t = 1
        if kind == "video":
            grid_t = -(-num_frames // part.temporal_patch_size)
            if _capped(processor):
                share = int(part.max_video_tokens * factor * factor * 0.9)
                share = share * part.temporal_patch_size // num_frames
                most = max(min(most, share), int(part.size["shortest_edge"] * 1.05))
        resized = smart_resize(
            height, width, factor, min_pixels=part.size["shortest_edge"], max_pixels=most
        )
        return int(grid_t * (resized[0] // factor) * (resized[1] // factor))


def _capped(processor: Any) -> bool:
    return bool(getattr(processor.video_processor, "cap_pixels_per_frame", None))
