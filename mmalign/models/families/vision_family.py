"""What the adapters of models with media towers before a text decoder share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from mmalign.models.families.chat import encode_answer, template_render
from mmalign.models.families.loading import bare_model, linear_names, load_model, load_processor
from mmalign.models.families.protocol import (
    DecodedMedia,
    EncodedCompletion,
    EncodedPrompt,
    PreparedMedia,
)
from mmalign.models.families.vision import encode_chat, placeholders
from mmalign.records import Message

__all__ = ["VisionFamily"]


class VisionFamily(ABC):
    """Loading, texts and modules; a family adds how it reads its media."""

    model_class: Any = AutoModelForImageTextToText
    decoder_name = "model.language_model"
    """Path of the text decoder inside the model."""

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
            self.model_class,
            path,
            dtype=dtype,
            device=device,
            revision=revision,
            attn_implementation=attn_implementation,
        )
        return model, load_processor(AutoProcessor, path, revision=revision)

    @abstractmethod
    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Media as the processor makes them, once for all prompts about them."""

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
            media_token_ids={item.token_id for item in placeholders(processor).values()},
        )

    def position_ids(self, model: PreTrainedModel, prompt: EncodedPrompt, tail: Tensor) -> Tensor:
        """[1, P + R]: 0, 1, 2 ..."""
        del model
        return torch.arange(len(prompt.input_ids) + len(tail)).unsqueeze(0)

    def split_media(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """One unit: who says nothing else may have a tower in which all media see each other."""
        return [dict(media)]

    def join_features(self, media: Mapping[str, Tensor], units: Sequence[Tensor]) -> Tensor:
        """[M, H]: one unit behind the other."""
        del media
        return torch.cat(list(units))

    def no_features(self, model: PreTrainedModel) -> Tensor:
        """[0, H], the features of no media."""
        weight = self.embed_tokens(model).weight
        assert isinstance(weight, Tensor)
        return weight.new_empty(0, weight.shape[1])

    def embed_tokens(self, model: PreTrainedModel) -> nn.Module:
        """The token embedding."""
        module: nn.Module = bare_model(model).get_input_embeddings()
        return module

    def decoder(self, model: PreTrainedModel) -> nn.Module:
        """The text decoder without the vocabulary head."""
        module: nn.Module = bare_model(model).get_submodule(self.decoder_name)
        return module

    def head(self, model: PreTrainedModel) -> nn.Module:
        """The vocabulary head."""
        module: nn.Module = bare_model(model).lm_head
        return module

    def language_linears(self, model: PreTrainedModel) -> list[str]:
        """Full names of the decoder's linear layers."""
        return linear_names(bare_model(model), self.decoder(model))
