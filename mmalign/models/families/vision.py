"""What the families with media have in common: processor calls, order of media, features."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
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
    "kept_frames",
    "media_kinds",
    "placeholders",
    "process_media",
    "sampled_fps",
    "sequenced",
]

ItemT = TypeVar("ItemT")
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
    """Once, where the chat template puts the medium."""
    token_id: int
    """Of the token that is there once per media token; of another one where clips are shown as
    pictures."""


def placeholders(processor: Any) -> dict[int, Placeholder]:
    """The placeholder of each kind of media that a processor reads, by token type."""
    found = {}
    for name, kind in _KINDS.items():
        token = getattr(processor, f"{name}_token", None)
        token_id = getattr(processor, f"{name}_token_id", None)
        if token_id is None and kind == VIDEO:  # SmolVLM: frames are pictures
            token_id = getattr(processor, "image_token_id", None)
        if token is not None and token_id is not None:
            found[kind] = Placeholder(token, token_id)
    return found


def media_kinds(processor: Any) -> frozenset[str]:
    """Kinds of media references that a processor reads; none for a tokenizer."""
    readable = placeholders(processor)
    return frozenset(name for name, kind in _KINDS.items() if kind in readable)


def process_media(
    processor: Any,
    media: Sequence[DecodedMedia],
    *,
    return_tensors: str | None = None,
    **video_options: Any,
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
                "video_metadata": [kept_frames(c.timestamps_s, fps=c.fps) for c in videos],
                "input_data_format": "channels_last",
                **video_options,
            }
            if videos
            else {},
            images_kwargs={"input_data_format": "channels_last"} if images else {},
            **_sound_arguments(processor, sounds),
            text_kwargs={"add_special_tokens": False},
            return_text_replacement_offsets=True,
            **({"return_tensors": return_tensors} if return_tensors else {}),
        )
    )
    written: dict[int, list[str]] = {kind: [] for kind in tokens}
    for item in features.pop("text_replacement_offsets")[0]:
        written[_KINDS[item["type"]]].append(item["replacement"])
    for key in ("input_ids", "attention_mask", "mm_token_type_ids", "video_metadata"):
        features.pop(key, None)
    return features, _with_texts(processor, kinds, written)


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
    if media.texts:
        return _encode_written(processor, text, media)
    ids = torch.tensor(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
    types = torch.zeros_like(ids)
    for kind, placeholder in tokens.items():
        types[ids == placeholder.token_id] = kind
    order = types[types > 0]
    if sorted(order.tolist()) != sorted(media.kinds):
        raise _stray_placeholders(processor, media, order.tolist())
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
    return _kept_fps(clip.timestamps_s, clip.fps)


def kept_frames(timestamps_s: npt.NDArray[np.float64], *, fps: float) -> VideoMetadata:
    """The kept frames as a clip of their own, so that no class thinks of sampling them again.

    They stand at their times on the source's axis, which some classes write into the prompt.

    Args:
        timestamps_s: [F].
        fps: Mean rate of the source.
    """
    kept_fps = _kept_fps(timestamps_s, fps)
    return VideoMetadata(
        total_num_frames=len(timestamps_s),
        fps=kept_fps,
        duration=len(timestamps_s) / kept_fps,
        frames_indices=(timestamps_s * kept_fps).tolist(),
    )


def in_order(
    images: Sequence[Tensor],
    videos: Sequence[Tensor],
    order: Tensor | None,
    *,
    sounds: Sequence[Tensor] = (),
) -> Tensor:
    """[M, H] features of media in prompt order, from those of each kind in their own order."""
    return torch.cat(sequenced(images, videos, order, sounds=sounds))


def sequenced(
    images: Sequence[ItemT],
    videos: Sequence[ItemT],
    order: Tensor | None,
    *,
    sounds: Sequence[ItemT] = (),
) -> list[ItemT]:
    """What is known of each medium, in prompt order, from each kind in its own order."""
    if order is None:
        return [*images, *videos, *sounds]
    queues = {IMAGE: iter(images), VIDEO: iter(videos), AUDIO: iter(sounds)}
    return [next(queues[kind]) for kind in order.tolist()]


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


def _with_texts(
    processor: Any, kinds: Sequence[int], written: Mapping[int, Sequence[str]]
) -> PreparedMedia:
    """Media as the processor writes them, from the texts of each kind in their own order."""
    tokens = placeholders(processor)
    queues = {kind: iter(texts) for kind, texts in written.items()}
    texts = tuple(next(queues[kind]) for kind in kinds)
    names = processor.tokenizer.convert_ids_to_tokens([tokens[kind].token_id for kind in kinds])
    counts = tuple(text.count(name) for text, name in zip(texts, names, strict=True))
    bare = all(text == name * n for text, name, n in zip(texts, names, counts, strict=True))
    return PreparedMedia({}, tuple(kinds), counts, () if bare else texts)


def _encode_written(processor: Any, text: str, media: PreparedMedia) -> EncodedPrompt:
    """Ids of a chat in which a medium is more than its token repeated: times, names of tiles."""
    tokens = placeholders(processor)
    kind_of = {placeholder.token: kind for kind, placeholder in tokens.items()}
    found = list(re.finditer("|".join(map(re.escape, kind_of)), text))
    if tuple(kind_of[match.group()] for match in found) != media.kinds:
        raise _stray_placeholders(processor, media, [kind_of[match.group()] for match in found])
    pieces, starts, end = [], [], 0
    for match, written in zip(found, media.texts, strict=True):
        pieces += [text[end : match.start()], written]
        end = match.end()
        starts.append(sum(map(len, pieces)) - len(written))
    encoded = processor.tokenizer(
        "".join([*pieces, text[end:]]), add_special_tokens=False, return_offsets_mapping=True
    )
    ids = torch.tensor(encoded["input_ids"])
    places = torch.tensor([start for start, _ in encoded["offset_mapping"]])
    number = torch.searchsorted(torch.tensor(starts), places, right=True).clamp(min=1) - 1
    is_media = torch.isin(ids, torch.tensor([token.token_id for token in tokens.values()]))
    types = torch.where(is_media, torch.tensor(media.kinds)[number], 0)
    assert number[is_media].bincount(minlength=len(found)).tolist() == list(media.num_tokens)
    order = torch.tensor(media.kinds)
    return EncodedPrompt(
        input_ids=ids,
        media=media.tensors if len(set(media.kinds)) < 2 else {**media.tensors, MEDIA_ORDER: order},
        token_types=types,
    )


def _stray_placeholders(processor: Any, media: PreparedMedia, found: Sequence[int]) -> RecordError:
    tokens = placeholders(processor)
    has = [f"{media.kinds.count(kind)} {_PLURALS[kind]}" for kind in tokens]
    seen = [f"{found.count(kind)} times {tokens[kind].token}" for kind in tokens]
    return RecordError(
        f"the prompt has {', '.join(has)}, its text {', '.join(seen)}. Remove placeholders from "
        f"the texts of the messages (media parts get theirs from the chat template)"
    )


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


def _kept_fps(timestamps_s: npt.NDArray[np.float64], source_fps: float) -> float:
    span_s = float(np.ptp(timestamps_s)) if len(timestamps_s) else 0.0
    if span_s <= 0:  # one frame, or one frame frozen
        return float(source_fps)
    return (len(timestamps_s) - 1) / span_s
