"""The tiny video language model of the shapes world, untrained."""

from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from mmalign.datasets.shapes.language import NUMBERS, TEMPLATES, THIRD_PERSON
from mmalign.datasets.shapes.reader import FORMS
from mmalign.datasets.shapes.world import ACTIONS, COLOURS, DIRECTIONS, KINDS, SIZE

__all__ = [
    "SPECIAL_TOKENS",
    "UntrainedModel",
    "processor_of_shapes",
    "tokenizer_of",
    "untrained_model",
    "vocabulary",
]

CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>"
    "{% if message['content'] is string %} {{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %} {{ part['text'] }}{% else %} <{{ part['type'] }}>{% endif %}"
    "{% endfor %}{% endif %} <end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""A media part becomes its placeholder, every turn ends with <end>."""

_IMAGE, _VIDEO = "<image>", "<video>"
SPECIAL_TOKENS = (
    *("<pad>", "<unk>", "<end>", "<system>", "<user>", "<assistant>", "<tool>"),
    *(_IMAGE, _VIDEO),
)
"""The first of every vocabulary."""
_PATCH = 16
_HIDDEN, _HEADS = 128, 4


class UntrainedModel(NamedTuple):
    """A model and the processor that feeds it."""

    model: LlavaOnevisionForConditionalGeneration
    processor: LlavaOnevisionProcessor


def untrained_model(seed: int, processor: LlavaOnevisionProcessor | None = None) -> UntrainedModel:
    """A model of 1.2 million random weights that sees clips and pictures of the shapes world.

    Its text weights are drawn four times as wide as usual: with 0.02 a model of this width
    never learns to look at the clip and stays with what is usually right.

    Args:
        seed: Fixes the weights; torch's own random state is left as it was.
        processor: Of another vocabulary than that of the world's questions.
    """
    processor = processor or processor_of_shapes()
    tokenizer = processor.tokenizer
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=_HIDDEN,
            intermediate_size=4 * _HIDDEN,
            num_hidden_layers=2,
            num_attention_heads=_HEADS,
            image_size=SIZE,
            patch_size=_PATCH,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=_HIDDEN,
            intermediate_size=3 * _HIDDEN,
            num_hidden_layers=3,
            num_attention_heads=_HEADS,
            num_key_value_heads=_HEADS,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            initializer_range=0.08,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=[[SIZE, SIZE]],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaOnevisionForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.train(False)
    return UntrainedModel(model, processor)


def processor_of_shapes(
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> LlavaOnevisionProcessor:
    """Frames of 64 x 64 at 16 patches each, words as tokens unless a tokenizer is given."""
    size = {"height": SIZE, "width": SIZE}
    pixels: dict[str, Any] = {"size": size, "image_mean": [0.125] * 3, "image_std": [0.25] * 3}
    return LlavaOnevisionProcessor(  # type: ignore[no-untyped-call]  # untyped there
        image_processor=LlavaOnevisionImageProcessor(image_grid_pinpoints=[[SIZE, SIZE]], **pixels),
        video_processor=LlavaOnevisionVideoProcessor(**pixels),
        tokenizer=tokenizer or tokenizer_of(_word_level()),
        num_image_tokens=(SIZE // _PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=_IMAGE,
        video_token=_VIDEO,
    )


def vocabulary() -> tuple[str, ...]:
    """All words of the world's language, special tokens first."""
    texts = [template.text.format(subject="", claim="", other="") for template in TEMPLATES]
    texts += [
        "yes no , .",
        "there is a no the shape is a number of shapes appears first sings then and",
        *FORMS.values(),
        *KINDS,
        *COLOURS,
        *DIRECTIONS,
        *ACTIONS,
        *THIRD_PERSON.values(),
        *NUMBERS,
        "before after",
    ]
    words = sorted({word for text in texts for word in text.split()})
    return (*SPECIAL_TOKENS, *words)


def tokenizer_of(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with the world's special tokens, which the backend's vocabulary begins with."""
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # untyped there
        tokenizer_object=backend,
        unk_token="<unk>",  # noqa: S106
        pad_token="<pad>",  # noqa: S106
        eos_token="<end>",  # noqa: S106
        additional_special_tokens=["<system>", "<user>", "<assistant>", "<tool>", _IMAGE, _VIDEO],
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=1024,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _word_level() -> Tokenizer:
    words = {word: place for place, word in enumerate(vocabulary())}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106  # a word, no secret
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return backend
