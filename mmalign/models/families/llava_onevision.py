"""LLaVA-OneVision: a per-frame tower, pooled clips, plain positions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedModel

from mmalign.models.families.loading import bare_model
from mmalign.models.families.protocol import DecodedMedia, PreparedMedia
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

__all__ = ["LlavaOnevision"]

_NUM_FRAMES = "num_frames"
"""Key of the media mapping: [N] frames of each clip, where those of a batch differ; shorter clips
are then padded behind. No argument of the model's forward."""
_ONE_TILE = 2
"""`batch_num_images` of any picture that is not alone in its prompt: it is not cut into tiles."""


class LlavaOnevision(VisionFamily):
    """Adapter around `LlavaOnevisionForConditionalGeneration`."""

    name = "llava_onevision"
    model_types = frozenset({"llava_onevision"})
    model_class = LlavaOnevisionForConditionalGeneration

    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Resized frames; a lone picture is cut into tiles, several are shrunk to one each."""
        features, prepared = process_media(processor, media)
        tensors: dict[str, Tensor] = {}
        if "pixel_values" in features:
            tensors["pixel_values"] = torch.stack(list(features["pixel_values"]))
            for key in ("image_sizes", "batch_num_images"):
                tensors[key] = torch.as_tensor(features[key])
        if "pixel_values_videos" in features:
            tensors |= _stack_clips(list(features["pixel_values_videos"]))
        return replace(prepared, tensors=tensors)

    def join_media(self, media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Clips and pictures of several prompts, padded to the most frames and tiles."""
        joined: dict[str, Tensor] = {}
        tiles = [item["pixel_values"] for item in media if "pixel_values" in item]
        if tiles:
            most = max(item.shape[1] for item in tiles)
            joined["pixel_values"] = torch.cat([_pad_second(item, most) for item in tiles])
            for key in ("image_sizes", "batch_num_images"):
                joined[key] = torch.cat([item[key] for item in media if key in item])
        joined |= _stack_clips([clip for item in media for clip in _clips(item)])
        order = join_orders(media, {"image_sizes": IMAGE, "pixel_values_videos": VIDEO})
        return joined if order is None else joined | {MEDIA_ORDER: order}

    def media_embeds(self, model: PreTrainedModel, media: Mapping[str, Tensor]) -> Tensor:
        """[M, H]: tower, projector, pooling and line ends by the model's own functions."""
        inner = bare_model(model).model
        images: Sequence[Tensor] = ()
        if "pixel_values" in media:
            images = inner.get_image_features(
                media["pixel_values"],
                media["image_sizes"],
                batch_num_images=media["batch_num_images"],
                return_dict=True,
            ).pooler_output
        clips = _clips(media)
        videos: dict[int, Tensor] = {}
        for frames in sorted({len(clip) for clip in clips}):
            places = [place for place, clip in enumerate(clips) if len(clip) == frames]
            stacked = torch.stack([clips[place] for place in places])
            found = inner.get_video_features(stacked, return_dict=True).pooler_output
            videos |= dict(zip(places, found, strict=True))
        in_sequence = [videos[place] for place in range(len(clips))]
        if not images and not in_sequence:
            return self.no_features(model)
        return in_order(images, in_sequence, media.get(MEDIA_ORDER))

    def split_media(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Frames, and pictures with all their tiles, between which line ends are set."""
        sizes = media.get("image_sizes", torch.empty(0, 2))
        pictures = [
            [
                {
                    "pixel_values": media["pixel_values"][place : place + 1],
                    "image_sizes": sizes[place : place + 1],
                    "batch_num_images": sizes.new_tensor([1 if len(sizes) == 1 else _ONE_TILE]),
                }
            ]
            for place in range(len(sizes))
        ]
        clips = [[{"pixel_values_videos": f[None, None]} for f in clip] for clip in _clips(media)]
        return list(chain.from_iterable(sequenced(pictures, clips, media.get(MEDIA_ORDER))))

    def join_features(self, media: Mapping[str, Tensor], units: Sequence[Tensor]) -> Tensor:
        """[M, H]: of the line end behind every frame, the one behind the clip stays."""
        pictures = [1] * len(media.get("image_sizes", ()))
        clips = [len(clip) for clip in _clips(media)]
        queue = iter(units)
        parts: list[Tensor] = []
        for num_units in sequenced(pictures, clips, media.get(MEDIA_ORDER)):
            *before, last = islice(queue, num_units)
            parts += [*(frame[:-1] for frame in before), last]
        return torch.cat(parts)

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Tokens of one clip, or of one picture that is alone in its prompt."""
        if kind == "video":
            sizes = {"video_sizes": [(num_frames, height, width)]}
            return int(processor._get_num_multimodal_tokens(**sizes)["num_video_tokens"][0])
        counts = processor._get_num_multimodal_tokens(image_sizes=[(height, width)])
        return int(counts["num_image_tokens"][0])


def _clips(media: Mapping[str, Tensor]) -> list[Tensor]:
    """[F, 3, H, W] of each clip, without padding."""
    if "pixel_values_videos" not in media:
        return []
    clips = media["pixel_values_videos"]
    lengths = media[_NUM_FRAMES].tolist() if _NUM_FRAMES in media else [clips.shape[1]] * len(clips)
    return [clip[:length] for clip, length in zip(clips, lengths, strict=True)]


def _stack_clips(clips: Sequence[Tensor]) -> dict[str, Tensor]:
    if not clips:
        return {}
    lengths = [len(clip) for clip in clips]
    most = max(lengths)
    stacked = torch.cat([_pad_second(clip.unsqueeze(0), most) for clip in clips])
    if min(lengths) == most:
        return {"pixel_values_videos": stacked}
    return {"pixel_values_videos": stacked, _NUM_FRAMES: torch.tensor(lengths)}


def _pad_second(tensor: Tensor, size: int) -> Tensor:
    """[N, K, 3, H, W] with zeros behind on the second axis."""
    missing = size - tensor.shape[1]
    return F.pad(tensor, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else tensor
