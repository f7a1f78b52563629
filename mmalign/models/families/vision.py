"""What the families that see have in common: processor calls, order of media, their features."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers.video_utils import VideoMetadata

from mmalign.errors import CapabilityError, RecordError
from mmalign.media import VideoClip
from mmalign.models.families.chat import template_render
from mmalign.models.families.protocol import DecodedMedia
from mmalign.records import Message

__all__ = [
    "IMAGE",
    "MEDIA_ORDER",
    "VIDEO",
    "VisionInputs",
    "in_order",
    "join_orders",
    "process_prompt",
    "sampled_fps",
]

IMAGE, VIDEO = 1, 2
"""Token types, as transformers' `mm_token_type_ids` number them."""

MEDIA_ORDER = "media_order"
"""Key of the media mapping: [N] token types of the media in prompt order. It is there only where
pictures and clips are mixed, and is no argument of the model's forward."""


class VisionInputs(NamedTuple):
    """What a processor makes of a prompt."""

    input_ids: Tensor
    token_types: Tensor
    features: dict[str, Any]
    """Everything else that it returned; clips may be a list of one tensor each."""
    order: Tensor | None
    """The value for MEDIA_ORDER."""


def process_prompt(
    processor: Any,
    messages: Sequence[Message],
    media: Sequence[DecodedMedia],
    *,
    tools: Sequence[str],
    **processor_options: Any,
) -> VisionInputs:
    """Render the chat, check its media, and call the processor on frames as they are.

    Raises:
        CapabilityError: A medium is of a kind that the model does not read.
        RecordError: Media and references do not match, or a text names a placeholder.
    """
    images, videos = _sorted_media(messages, media)
    text = template_render(processor, with_parts=True, tools=tools)(messages, True)
    pattern = f"({re.escape(processor.image_token)})|({re.escape(processor.video_token)})"
    order = [IMAGE if match.group(1) else VIDEO for match in re.finditer(pattern, text)]
    if (order.count(IMAGE), order.count(VIDEO)) != (len(images), len(videos)):
        raise RecordError(
            f"the prompt has {len(images)} pictures and {len(videos)} clips, its text "
            f"{order.count(IMAGE)} times {processor.image_token} and {order.count(VIDEO)} times "
            f"{processor.video_token}. Remove placeholders from the texts of the messages (media "
            f"parts get theirs from the chat template)"
        )
    features = dict(
        processor(
            text=[text],
            images=[images] if images else None,
            videos=[clip.frames for clip in videos] or None,
            videos_kwargs={
                "do_sample_frames": False,
                "video_metadata": [_metadata(clip) for clip in videos],
                "input_data_format": "channels_last",
                **processor_options,
            }
            if videos
            else {},
            images_kwargs={"input_data_format": "channels_last"} if images else {},
            text_kwargs={"add_special_tokens": False},
            return_mm_token_type_ids=True,
        )
    )
    features.pop("attention_mask", None)
    features.pop("video_metadata", None)
    ids = torch.tensor(features.pop("input_ids")[0], dtype=torch.int64)
    types = torch.tensor(features.pop("mm_token_type_ids")[0], dtype=torch.int64)
    assert ((ids == processor.image_token_id) == (types == IMAGE)).all()
    assert ((ids == processor.video_token_id) == (types == VIDEO)).all()
    assert bool(types.any()) == bool(media)
    mixed = len(set(order)) > 1
    return VisionInputs(ids, types, features, torch.tensor(order) if mixed else None)


def sampled_fps(clip: VideoClip) -> float:
    """Frames per second of the frames that were kept, whatever their order."""
    span_s = float(np.ptp(clip.timestamps_s)) if len(clip.timestamps_s) else 0.0
    if span_s <= 0:  # one frame, or one frame frozen
        return float(clip.fps)
    return (len(clip.timestamps_s) - 1) / span_s


def in_order(images: Sequence[Tensor], videos: Sequence[Tensor], order: Tensor | None) -> Tensor:
    """[M, H] features of media in prompt order, from those of each kind in their own order."""
    if order is None:
        return torch.cat([*images, *videos])
    queues = {IMAGE: iter(images), VIDEO: iter(videos)}
    return torch.cat([next(queues[kind]) for kind in order.tolist()])


def join_orders(media: Sequence[Mapping[str, Tensor]], counts: Mapping[str, int]) -> Tensor | None:
    """Order of the media of several prompts, None where all are of one kind.

    Args:
        media: One mapping per prompt.
        counts: For each key whose first axis counts media, their token type.
    """
    order: list[int] = []
    for prompt in media:
        if MEDIA_ORDER in prompt:
            order += prompt[MEDIA_ORDER].tolist()
        else:
            order += [kind for key, kind in counts.items() for _ in prompt.get(key, ())]
    return torch.tensor(order) if len(set(order)) > 1 else None


def _sorted_media(
    messages: Sequence[Message], media: Sequence[DecodedMedia]
) -> tuple[list[np.ndarray[Any, np.dtype[np.uint8]]], list[VideoClip]]:
    refs = [ref for message in messages for ref in message.media]
    if len(refs) != len(media):
        raise RecordError(
            f"the prompt names {len(refs)} media, {len(media)} decoded ones came with it; give "
            f"one for each, in order"
        )
    images: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    videos: list[VideoClip] = []
    for ref, item in zip(refs, media, strict=True):
        if ref.kind == "image" and isinstance(item, np.ndarray):
            images.append(item)
        elif ref.kind == "video" and isinstance(item, VideoClip):
            videos.append(item)
        elif ref.kind == "audio":
            raise CapabilityError(
                f"{ref.uri}: the model reads pictures and clips, no sound; remove it or choose "
                f"a model that hears"
            )
        else:
            raise RecordError(f"{ref.uri}: a {ref.kind} was decoded to {type(item).__name__}")
    return images, videos


def _metadata(clip: VideoClip) -> VideoMetadata:
    """The kept frames as a clip of their own, so that no class thinks of sampling them again."""
    num_frames, height, width, _ = clip.frames.shape
    fps = sampled_fps(clip)
    return VideoMetadata(
        total_num_frames=num_frames,
        fps=fps,
        width=width,
        height=height,
        duration=num_frames / fps,
        frames_indices=list(range(num_frames)),
    )
