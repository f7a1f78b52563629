"""What the families with media have in common: processor calls, order of media, features."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers.video_utils import VideoMetadata

from mmalign.errors import CapabilityError, RecordError
from mmalign.media import AudioClip, VideoClip
from mmalign.models.families.chat import template_render
from mmalign.models.families.protocol import DecodedMedia, EncodedPrompt, PreparedMedia
from mmalign.models.families.sound import sound_rate_hz, waveforms
from mmalign.records import Message

__all__ = [
    "AUDIO",
    "IMAGE",
    "MEDIA_ORDER",
    "VIDEO",
    "encode_chat",
    "in_order",
    "join_orders",
    "placeholders",
    "process_media",
    "sampled_fps",
]

IMAGE, VIDEO, AUDIO = 1, 2, 3
"""Token types, as transformers' `mm_token_type_ids` number them."""

MEDIA_ORDER = "media_order"
"""Key of the media mapping: [N] token types of the media in prompt order. It is there only where
kinds are mixed, and is no argument of the model's forward."""

_KINDS = {"image": IMAGE, "video": VIDEO, "audio": AUDIO}
_PLURALS = {IMAGE: "pictures", VIDEO: "clips", AUDIO: "sound"}


class Placeholder(NamedTuple):
    """What stands in a text for a medium."""

    token: str
    token_id: int


def placeholders(processor: Any) -> dict[int, Placeholder]:
    """The placeholder of each kind of media that a processor reads, by token type."""
    return {
        kind: Placeholder(
            getattr(processor, f"{name}_token"), getattr(processor, f"{name}_token_id")
        )
        for name, kind in _KINDS.items()
        if getattr(processor, f"{name}_token_id", None) is not None
    }


def process_media(
    processor: Any, media: Sequence[DecodedMedia], **video_options: Any
) -> tuple[dict[str, Any], PreparedMedia]:
    """Call the processor on pictures, on frames as they are and on sound at its rate.

    Returns:
        What it returned besides ids, and the same media with kinds and token counts, whose
        tensors the caller fills in.

    Raises:
        CapabilityError: There is a kind among the media that the processor does not read, or a
            sound that it would cut.
    """
    images = [item for item in media if isinstance(item, np.ndarray)]
    videos = [item for item in media if isinstance(item, VideoClip)]
    sounds = [item for item in media if isinstance(item, AudioClip)]
    kinds = tuple(map(_kind_of, media))
    _require_readable(processor, kinds)
    if not media:
        return {}, PreparedMedia({}, (), ())
    tokens = placeholders(processor)
    features = dict(
        processor(
            text=["\n".join(tokens[kind].token for kind in sorted(kinds))],
            images=[images] if images else None,
            videos=[clip.frames for clip in videos] or None,
            videos_kwargs={
                "do_sample_frames": False,
                "video_metadata": [_metadata(clip) for clip in videos],
                "input_data_format": "channels_last",
                **video_options,
            }
            if videos
            else {},
            images_kwargs={"input_data_format": "channels_last"} if images else {},
            **_sound_arguments(processor, sounds),
            text_kwargs={"add_special_tokens": False},
            return_mm_token_type_ids=True,
        )
    )
    runs = [
        (kind, len(list(run)))
        for kind, run in groupby(features.pop("mm_token_type_ids")[0])
        if kind
    ]
    assert [kind for kind, _ in runs] == sorted(kinds)  # else Qwen would take text positions
    counts = {kind: iter([n for k, n in runs if k == kind]) for kind in tokens}
    for key in ("input_ids", "attention_mask", "video_metadata"):
        features.pop(key, None)
    return features, PreparedMedia({}, kinds, tuple(next(counts[kind]) for kind in kinds))


def encode_chat(
    processor: Any, messages: Sequence[Message], media: PreparedMedia, *, tools: Sequence[str]
) -> EncodedPrompt:
    """Ids of the rendered chat, each placeholder repeated once per token of its medium.

    Raises:
        CapabilityError: The prompt names a kind of media that the processor does not read.
        RecordError: Media and references do not match, or a text names a placeholder.
    """
    tokens = placeholders(processor)
    _require_same_media(processor, messages, media)
    text = template_render(processor, with_parts=True, tools=tools)(messages, True)
    ids = torch.tensor(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
    types = torch.zeros_like(ids)
    for kind, placeholder in tokens.items():
        types[ids == placeholder.token_id] = kind
    order = types[types > 0]
    if sorted(order.tolist()) != sorted(media.kinds):
        has = [f"{media.kinds.count(kind)} {_PLURALS[kind]}" for kind in tokens]
        found = [f"{int((types == kind).sum())} times {tokens[kind].token}" for kind in tokens]
        raise RecordError(
            f"the prompt has {', '.join(has)}, its text {', '.join(found)}. Remove placeholders "
            f"from the texts of the messages (media parts get theirs from the chat template)"
        )
    repeats = torch.ones_like(ids)
    for kind in tokens:
        counts = [n for k, n in zip(media.kinds, media.num_tokens, strict=True) if k == kind]
        repeats[types == kind] = torch.tensor(counts, dtype=torch.int64)
    return EncodedPrompt(
        input_ids=ids.repeat_interleave(repeats),
        media=media.tensors if len(set(media.kinds)) < 2 else {**media.tensors, MEDIA_ORDER: order},
        token_types=types.repeat_interleave(repeats),
    )


def sampled_fps(clip: VideoClip) -> float:
    """Frames per second of the frames that were kept, whatever their order."""
    span_s = float(np.ptp(clip.timestamps_s)) if len(clip.timestamps_s) else 0.0
    if span_s <= 0:  # one frame, or one frame frozen
        return float(clip.fps)
    return (len(clip.timestamps_s) - 1) / span_s


def in_order(
    images: Sequence[Tensor],
    videos: Sequence[Tensor],
    order: Tensor | None,
    *,
    sounds: Sequence[Tensor] = (),
) -> Tensor:
    """[M, H] features of media in prompt order, from those of each kind in their own order."""
    if order is None:
        return torch.cat([*images, *videos, *sounds])
    queues = {IMAGE: iter(images), VIDEO: iter(videos), AUDIO: iter(sounds)}
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


def _kind_of(item: DecodedMedia) -> int:
    if isinstance(item, np.ndarray):
        return IMAGE
    return VIDEO if isinstance(item, VideoClip) else AUDIO


def _sound_arguments(processor: Any, sounds: Sequence[AudioClip]) -> dict[str, Any]:
    if not sounds:
        return {}
    return {
        "audio": waveforms(processor, sounds),
        "audio_kwargs": {"sampling_rate": sound_rate_hz(processor)},
    }


def _require_readable(processor: Any, kinds: Iterable[int], *, where: str = "") -> None:
    readable = placeholders(processor)
    for kind in kinds:
        if kind not in readable:
            names = " and ".join(_PLURALS[other] for other in readable)
            raise CapabilityError(
                f"{where}the model reads {names}, no {_PLURALS[kind]}; remove it or choose a "
                f"model that does"
            )


def _require_same_media(processor: Any, messages: Sequence[Message], media: PreparedMedia) -> None:
    refs = [ref for message in messages for ref in message.media]
    for ref in refs:
        _require_readable(processor, [_KINDS[ref.kind]], where=f"{ref.uri}: ")
    if len(refs) != len(media.kinds):
        raise RecordError(
            f"the prompt names {len(refs)} media, {len(media.kinds)} decoded ones came with it; "
            f"give one for each, in order"
        )
    for ref, kind in zip(refs, media.kinds, strict=True):
        if _KINDS[ref.kind] != kind:
            other = next(name for name, number in _KINDS.items() if number == kind)
            raise RecordError(f"{ref.uri}: the prompt names {ref.kind}, {other} came with it")


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
