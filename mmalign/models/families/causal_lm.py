"""Any causal language model of transformers that is only text."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from mmalign.errors import CapabilityError, RecordError
from mmalign.models.families.chat import Render, encode_answer, plain_render, template_render
from mmalign.models.families.loading import bare_model, linear_names, load_model, load_processor
from mmalign.models.families.protocol import (
    DecodedMedia,
    EncodedCompletion,
    EncodedPrompt,
    PreparedMedia,
)
from mmalign.records import Message

__all__ = ["CausalLM"]

_HEAD_FACTORS = {"final_logit_softcapping": None, "logit_scale": 1.0, "logits_scaling": 1.0}
"""Settings that change logits behind the head, and their values without effect."""


class CausalLM:
    """Adapter around `AutoModelForCausalLM` with a tokenizer in the processor's place."""

    name = "causal_lm"
    model_types = frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

    def load(
        self,
        path: str,
        *,
        dtype: torch.dtype,
        device: str,
        revision: str | None = None,
        attn_implementation: str | None = None,
    ) -> tuple[PreTrainedModel, Any]:
        """Model (eval mode) and tokenizer from a folder or hub name."""
        model = load_model(
            AutoModelForCausalLM,
            path,
            dtype=dtype,
            device=device,
            revision=revision,
            attn_implementation=attn_implementation,
        )
        self.head(model)  # refuses before anything is computed
        return model, load_processor(AutoTokenizer, path, revision=revision)

    def prepare_media(self, processor: Any, media: Sequence[DecodedMedia]) -> PreparedMedia:
        """Nothing, since there are no media.

        Raises:
            CapabilityError: There are.
        """
        del processor
        if media:
            raise CapabilityError(f"{len(media)} media were given to a model that reads text only")
        return PreparedMedia({}, (), ())

    def encode_prompt(
        self,
        processor: Any,
        messages: Sequence[Message],
        media: Sequence[DecodedMedia] | PreparedMedia,
        *,
        tools: Sequence[str] = (),
    ) -> EncodedPrompt:
        """Ids of the rendered chat, or of the texts joined where there is no chat template."""
        if not isinstance(media, PreparedMedia):
            self.prepare_media(processor, media)
        text = _render(processor, tools)(messages, True)
        ids = processor(text, add_special_tokens=not processor.chat_template)["input_ids"]
        if not ids:
            raise RecordError("the prompt is empty; a model needs at least one token to go on from")
        tensor = torch.tensor(ids, dtype=torch.int64)
        return EncodedPrompt(tensor, {}, torch.zeros_like(tensor))

    def encode_completion(
        self, processor: Any, messages: Sequence[Message], completion: Sequence[Message]
    ) -> EncodedCompletion:
        """Ids of the assistant turns that answer `messages`, end of turn included."""
        return encode_answer(
            processor,
            _render(processor),
            messages,
            completion,
            add_special_tokens=not processor.chat_template,
        )

    def join_media(self, media: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Nothing."""
        del media
        return {}

    def position_ids(self, model: PreTrainedModel, prompt: EncodedPrompt, tail: Tensor) -> Tensor:
        """[1, P + R]: 0, 1, 2 ..."""
        del model
        return torch.arange(len(prompt.input_ids) + len(tail)).unsqueeze(0)

    def media_embeds(self, model: PreTrainedModel, media: Mapping[str, Tensor]) -> Tensor:
        """[0, H]."""
        del media
        weight = self.embed_tokens(model).weight
        assert isinstance(weight, Tensor)
        return weight.new_empty(0, weight.shape[1])

    def split_media(self, media: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """None."""
        del media
        return []

    def join_features(self, media: Mapping[str, Tensor], units: Sequence[Tensor]) -> Tensor:
        """Refused: there are no media.

        Raises:
            CapabilityError: Always.
        """
        del media, units
        raise CapabilityError("a text model has no features of media; choose one that sees")

    def embed_tokens(self, model: PreTrainedModel) -> nn.Module:
        """The token embedding."""
        module: nn.Module = bare_model(model).get_input_embeddings()
        return module

    def decoder(self, model: PreTrainedModel) -> nn.Module:
        """The model without its vocabulary head."""
        module: nn.Module = bare_model(model).base_model
        return module

    def head(self, model: PreTrainedModel) -> nn.Module:
        """The vocabulary head.

        Raises:
            CapabilityError: The model changes its logits behind the head.
        """
        inner = bare_model(model)
        for name, neutral in _HEAD_FACTORS.items():
            value = getattr(inner.config, name, neutral)
            if value not in (neutral, None):
                raise CapabilityError(
                    f"{inner.config.model_type} sets {name}={value}, which changes the logits "
                    f"behind the head; mmalign would compute other log-probs than the model. "
                    f"Choose a model without it"
                )
        module: nn.Module = inner.get_output_embeddings()
        return module

    def language_linears(self, model: PreTrainedModel) -> list[str]:
        """Full names of the decoder's linear layers."""
        return linear_names(bare_model(model), self.decoder(model))

    def media_token_count(
        self, processor: Any, kind: str, *, num_frames: int, height: int, width: int
    ) -> int:
        """Refused: there are no media.

        Raises:
            CapabilityError: Always.
        """
        del processor, num_frames, height, width
        raise CapabilityError(f"a text model has no tokens for a {kind}; choose one that sees")


def _render(tokenizer: Any, tools: Sequence[str] = ()) -> Render:
    if tokenizer.chat_template:
        return template_render(tokenizer, with_parts=False, tools=tools)
    if tools:
        raise CapabilityError("tools need a chat template, which the tokenizer does not have")
    return plain_render(tokenizer.eos_token)
