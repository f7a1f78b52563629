"""mmalign's own audio-visual model: clips and sounds anywhere in a prompt, plain positions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from mmalign.errors import CapabilityError, RecordError
from mmalign.models.audio_visual import AudioVisualForConditionalGeneration
from mmalign.models.families.loading import bare_model
from mmalign.models.families.protocol import (
    DecodedMedia,
    EncodedCompletion,
    EncodedPrompt,
    PreparedMedia,
)
from mmalign.models.families.sound import FEATURE_MASK, FEATURES, join_sounds, sound_token_count
from mmalign.models.families.vision import (
    AUDIO,
    MEDIA_ORDER,
    VIDEO,
    in_order,
    join_orders,
    process_media,
    sequenced,
)
from mmalign.models.families.vision_family import VisionFamily
from mmalign.records import Message, TextPart

__all__ = ["AudioVisual"]

_FRAMES, _NUM_FRAMES = "pixel_values_videos", "video_num_frames"
_QUESTIONS = {VIDEO: "video_question_ids", AUDIO: "audio_question_ids"}
_MARKED = re.compile("<Q>(.*?)<Q>", re.DOTALL)


class AudioVisual(VisionFamily):
    """Adapter around `AudioVisualForConditionalGeneration`.

    Where the model has a clue aggregator, the question goes along with the media: what stands
    between two `<Q>` in the last turn of the user, else the text of that turn. The marks
    themselves are taken out of every prompt.
    """

    name = "audio_visual"
    model_types = frozenset({"audio_visual"})
    model_class = AudioVisualForConditionalGeneration

    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Frames of all clips in a row, and spectra as long as the longest sound."""
        features, prepared = process_media(processor, media)
        return replace(prepared, tensors=features)

    def encode_prompt(
        self,
        processor: Any,
        messages: Sequence[Message],
        media: Sequence[DecodedMedia] | PreparedMedia,
        *,
        tools: Sequence[str] = (),
    ) -> EncodedPrompt:
        """Ids and tensors of a prompt, and with a clue aggregator the question about each medium.

        Raises:
            RecordError: The marks around the question are not a pair, or there is no question.
        """
        prompt = super().encode_prompt(processor, _unmarked(messages), media, tools=tools)
        if not processor.num_clue_tokens or not prompt.media:
            return prompt
        tokens = processor.tokenizer(_question(messages), add_special_tokens=False)["input_ids"]
        ids = torch.tensor([tokens])
        counts = {VIDEO: prompt.media.get(_NUM_FRAMES, ()), AUDIO: prompt.media.get(FEATURES, ())}
        asked = {
            _QUESTIONS[kind]: ids.expand(len(found), -1)
            for kind, found in counts.items()
            if len(found)
        }
        return replace(prompt, media={**prompt.media, **asked})

    def encode_completion(
        self, processor: Any, messages: Sequence[Message], completion: Sequence[Message]
    ) -> EncodedCompletion:
        """Ids of the assistant turns that answer `messages`, end of turn included."""
        return super().encode_completion(processor, _unmarked(messages), completion)

    def join_media(self, media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Frames, spectra and questions of several prompts, one after the other."""
        padded = join_sounds(media)
        joined = {
            key: torch.cat([item[key] for item in padded if key in item])
            for key in (_FRAMES, _NUM_FRAMES, FEATURES, FEATURE_MASK)
            if any(key in item for item in padded)
        }
        for key in _QUESTIONS.values():
            asked = [item[key] for item in media if key in item]
            if asked:
                longest = max(ids.shape[1] for ids in asked)
                joined[key] = torch.cat(
                    [F.pad(ids, (0, longest - ids.shape[1]), value=-1) for ids in asked]
                )
        order = join_orders(media, {_NUM_FRAMES: VIDEO, FEATURE_MASK: AUDIO})
        return joined if order is None else joined | {MEDIA_ORDER: order}

    def media_embeds(self, model: PreTrainedModel, media: Mapping[str, Tensor]) -> Tensor:
        """[M, H]: towers, projectors and aggregator by the model's own functions."""
        inner = bare_model(model).model
        clips: Sequence[Tensor] = ()
        sounds: Sequence[Tensor] = ()
        if _FRAMES in media:
            clips = inner.get_video_features(
                media[_FRAMES], media[_NUM_FRAMES], media.get(_QUESTIONS[VIDEO])
            ).pooler_output
        if FEATURES in media:
            sounds = inner.get_audio_features(
                media[FEATURES], media[FEATURE_MASK], media.get(_QUESTIONS[AUDIO])
            ).pooler_output
        if not clips and not sounds:
            return self.no_features(model)
        return in_order((), clips, media.get(MEDIA_ORDER), sounds=sounds)

    def split_media(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Frames and sounds; all in one where clues are drawn from whole media."""
        if any(key in media for key in _QUESTIONS.values()):
            return super().split_media(media)
        one = torch.ones(1, dtype=torch.int64)
        clips: list[list[dict[str, Tensor]]] = []
        if _FRAMES in media:
            clips = [
                [{_FRAMES: frame[None], _NUM_FRAMES: one} for frame in clip]
                for clip in torch.split(media[_FRAMES], media[_NUM_FRAMES].tolist())
            ]
        sounds = []
        for place in range(len(media.get(FEATURES, ()))):
            mask = media[FEATURE_MASK][place, : int(media[FEATURE_MASK][place].sum())]
            features = media[FEATURES][place, :, : len(mask)]
            sounds.append([{FEATURES: features[None], FEATURE_MASK: mask[None]}])
        found = sequenced((), clips, media.get(MEDIA_ORDER), sounds=sounds)
        return list(chain.from_iterable(found))

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Tokens of one clip, or of one sound of `num_frames` samples.

        Raises:
            CapabilityError: It is a picture, or a sound that the model cannot hear whole.
        """
        del height, width
        if kind == "audio":
            return int(processor.num_tokens(sound_token_count(processor, num_frames)))
        if kind == "video":
            return int(processor.num_tokens(num_frames * processor.tokens_per_frame))
        raise CapabilityError(
            f"the model reads clips and sound, it has no tokens for a {kind}; give it as a clip "
            f"of one frame, or choose another model"
        )


def _question(messages: Sequence[Message]) -> str:
    """What the last turn of the user asks."""
    turns = [message for message in messages if message.role == "user"]
    text = turns[-1].text if turns else ""
    marked = _MARKED.search(text)
    question = (marked.group(1) if marked else text).strip()
    if not question:
        raise RecordError(
            "the clue aggregator is guided by the question, and the user's last turn has no text; "
            "ask something about the media"
        )
    return question


def _unmarked(messages: Sequence[Message]) -> list[Message]:
    return [
        message.model_copy(
            update={
                "content": tuple(
                    TextPart(text=_without_marks(part.text)) if isinstance(part, TextPart) else part
                    for part in message.content
                )
            }
        )
        if message.role == "user" and "<Q>" in message.text
        else message
        for message in messages
    ]


def _without_marks(text: str) -> str:
    text = _MARKED.sub(r"\1", text)
    if "<Q>" in text:
        raise RecordError(
            f"the question's marks <Q> are not a pair in {text[:60]!r}; put one before and one "
            f"behind the question"
        )
    return text
