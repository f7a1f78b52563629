"""What training and in-process generation need to know of one transformers architecture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmalign.media import AudioClip, VideoClip
from mmalign.records import Message

__all__ = [
    "DecodedMedia",
    "EncodedCompletion",
    "EncodedPrompt",
    "ModelFamily",
    "PreparedMedia",
    "WritesClips",
]

DecodedMedia = VideoClip | AudioClip | np.ndarray[Any, np.dtype[np.uint8]]
"""A clip, a sound, or a picture [H, W, 3]."""


@dataclass(frozen=True)
class PreparedMedia:
    """Media of one prompt behind the processor; goes with any text that names them."""

    tensors: Mapping[str, Tensor]
    """Media arguments of the model's forward, as in `EncodedPrompt.media`."""
    kinds: tuple[int, ...]
    """Token type of each medium, in order."""
    num_tokens: tuple[int, ...]
    """Tokens of each medium."""
    texts: tuple[str, ...] = ()
    """What stands for each medium in the text, where that is more than its token repeated: times
    between frames, names of tiles."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as token ids and media tensors, ready for the family's forward pass."""

    input_ids: Tensor
    """[P] int64; placeholders of media are already repeated once per media token."""
    media: Mapping[str, Tensor]
    """Media arguments of the model's forward (`pixel_values_videos` ...), first axis countable:
    those of several prompts are joined by `ModelFamily.join_media`."""
    token_types: Tensor
    """[P] int64: 0 text, 1 image, 2 video, 3 audio."""
    media_key: str = ""
    """Names the media by what they show; empty where nobody said."""
    key: str = ""
    """Names the prompt, media and all, under one processor; empty where nobody said."""

    @property
    def num_media_tokens(self) -> int:
        """Tokens that stand for pictures, video or sound."""
        return int((self.token_types > 0).sum())


@dataclass(frozen=True)
class EncodedCompletion:
    """A response as the token ids that follow its prompt, up to and with the end of turn."""

    input_ids: Tensor
    """[R] int64."""
    mask: Tensor
    """[R] bool, True on tokens that the model wrote (tool output is False)."""
    offsets: tuple[tuple[int, int], ...]
    """Characters of the response's text that each token covers; (n, n) where it covers none."""


class ModelFamily(Protocol):
    """Adapter around transformers' own classes of one architecture."""

    name: str
    model_types: frozenset[str]
    """`config.model_type`s that it serves."""

    def load(
        self,
        path: str,
        *,
        dtype: torch.dtype,
        device: str,
        revision: str | None = None,
        attn_implementation: str | None = None,
    ) -> tuple[PreTrainedModel, Any]:
        """Model (eval mode) and processor (or tokenizer) from a folder or hub name.

        Raises:
            ConfigError: They are not there, or the weights are not safetensors.
        """
        ...

    def prepare_media(
        self,
        processor: Any,  # transformers' processors share no typed base
        media: Sequence[DecodedMedia],
    ) -> PreparedMedia:
        """Media as the processor makes them, once for all prompts about them.

        It takes about a hundred times as long as encoding the text of a short question.
        """
        ...

    def encode_prompt(
        self,
        processor: Any,
        messages: Sequence[Message],
        media: Sequence[DecodedMedia] | PreparedMedia,
        *,
        tools: Sequence[str] = (),
    ) -> EncodedPrompt:
        """Ids and tensors of a prompt that ends where the assistant's answer begins.

        Args:
            processor: The one that `load` gave.
            messages: The prompt.
            media: Decoded media of the messages, in order, or what `prepare_media` made of them.
                Frames are never sampled again.
            tools: JSON schemas as text.
        """
        ...

    def encode_completion(
        self,
        processor: Any,
        messages: Sequence[Message],
        completion: Sequence[Message],
    ) -> EncodedCompletion:
        """Ids of the assistant turns that answer `messages`, end of turn included.

        Raises:
            RecordError: The chat template renders the prompt differently once it is answered.
        """
        ...

    def join_media(self, media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Media arguments of several prompts as those of one batch."""
        ...

    def position_ids(self, model: PreTrainedModel, prompt: EncodedPrompt, tail: Tensor) -> Tensor:
        """Positions of prompt and tail by the family's own full-sequence rule.

        Args:
            model: Holds the rule.
            prompt: The prompt.
            tail: [R] ids that follow it.

        Returns:
            [A, P + R] int64; A is 1 for plain positions, 3 for time, height and width.
        """
        ...

    def media_embeds(self, model: PreTrainedModel, media: Mapping[str, Tensor]) -> Tensor:
        """[M, H] features of all media tokens of a batch, prompt by prompt, in token order.

        [M, H * (1 + D)] where the first D decoder layers are given features of their own, side by
        side; `place_media` puts them where they belong.
        """
        ...

    def split_media(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """The units of one prompt's media: parts that see nothing of each other in the tower.

        A frame, what a tower merges of several frames, a tile, a picture, a sound; each of the
        form of a prompt's media, in token order.
        """
        ...

    def join_features(self, media: Mapping[str, Tensor], units: Sequence[Tensor]) -> Tensor:
        """[M, H] of one prompt's media, as `media_embeds` gives them, from those of its units.

        Args:
            media: Of the prompt.
            units: What `media_embeds` gives of each part in `split_media`, in order.
        """
        ...

    def embed_tokens(self, model: PreTrainedModel) -> nn.Module:
        """The token embedding."""
        ...

    def decoder(self, model: PreTrainedModel) -> nn.Module:
        """The text decoder: (inputs_embeds, attention_mask, position_ids) to hidden states."""
        ...

    def head(self, model: PreTrainedModel) -> nn.Module:
        """The vocabulary head: [..., H] to logits [..., V]."""
        ...

    def language_linears(self, model: PreTrainedModel) -> list[str]:
        """Full names of the decoder's linear layers, LoRA's default targets."""
        ...

    def media_token_count(
        self,
        processor: Any,
        kind: str,
        *,
        num_frames: int,
        height: int,
        width: int,
    ) -> int:
        """Tokens that one clip, picture or sound will take, from its sizes alone.

        Args:
            processor: The one that `load` gave.
            kind: `video`, `image` or `audio`.
            num_frames: Frames of a clip that the model sees; samples of a sound at the rate that
                the processor wants.
            height: Of the decoded frames, in pixels; not looked at for a sound.
            width: The same.

        Raises:
            CapabilityError: The model has no tokens for it, or would not take it whole.
        """
        ...


@runtime_checkable
class WritesClips(Protocol):
    """A family that writes more into a prompt for a clip than its token repeated."""

    def clip_text(
        self,
        processor: Any,
        *,
        num_tokens: int,
        timestamps_s: npt.NDArray[np.float64],
        fps: float,
    ) -> str:
        """What `PreparedMedia.texts` holds for a clip, without its pixels.

        Args:
            processor: The one that `load` gave.
            num_tokens: Of the clip, as `media_token_count` says.
            timestamps_s: [F] of its frames.
            fps: Mean rate of the source.
        """
        ...
