"""Tiny random models of real transformers classes with real processors, built without a download.

Weights are drawn wide (standard deviation 0.2), because at transformers' 0.02 a random model hardly
looks at positions and media, and a test that mixes them up would pass.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from mmalign.media import VideoClip
from mmalign.models.families import FAMILIES, ModelFamily

__all__ = [
    "CHATML",
    "LLAVA_TEMPLATE",
    "QWEN_VL_TEMPLATE",
    "TINY_MODELS",
    "TinyModel",
    "seeded_model",
    "text_settings",
    "tiny_causal_lm",
    "tiny_clip",
    "tiny_image",
    "tiny_llava_onevision",
    "tiny_qwen2_5_vl",
    "tiny_tokenizer",
    "turns_template",
]

_WORDS = """what colour is the circle that moves to the left of the square in the clip? it is red.
does the blue triangle appear before the green star vanishes? yes, it does. no, it does not.
how many shapes collide? one, two, three, four. which shape makes the tone? describe the video.
assistant user system tool a an and then first last second answer with a short word or sentence."""

_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<image>",
    "<video>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

_TURNS = (
    "{%% for message in messages %%}<|im_start|>{{ message.role }}\n"
    "%s<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)


def turns_template(**texts: str) -> str:
    """ChatML over lists of parts, with what stands for a medium of each kind."""
    media = "".join(
        f"{{% if part.type == '{kind}' %}}{text}{{% endif %}}" for kind, text in texts.items()
    )
    return _TURNS % (
        "{% for part in message.content %}"
        f"{media}{{% if part.type == 'text' %}}{{{{ part.text }}}}{{% endif %}}"
        "{% endfor %}"
    )


CHATML = _TURNS % "{{ message.content }}"
"""For tokenizers."""
LLAVA_TEMPLATE = turns_template(image="<image>\n", video="<video>\n")
QWEN_VL_TEMPLATE = turns_template(
    image="<|vision_start|><|image_pad|><|vision_end|>",
    video="<|vision_start|><|video_pad|><|vision_end|>",
)


class TinyModel(NamedTuple):
    """A model with what belongs to it."""

    model: PreTrainedModel
    processor: Any
    family: ModelFamily


def tiny_tokenizer(*, num_merges: int = 64, chat_template: str | None = None) -> Any:
    """Byte-level BPE over a few sentences about shapes; ChatML's and both families' tokens."""
    build: Any = PreTrainedTokenizerFast
    tokenizer = build(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json(num_merges)),
        eos_token="<|im_end|>",  # noqa: S106  # no secret
        pad_token="<|endoftext|>",  # noqa: S106
        extra_special_tokens=["<|im_start|>", *_SPECIAL[3:]],
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def tiny_llava_onevision(
    *, seed: int = 0, hidden_size: int = 32, num_layers: int = 2, image_size: int = 32
) -> TinyModel:
    """LLaVA-OneVision over SigLIP and Qwen2: (image_size / 16)² tokens a frame and one a clip."""
    tokenizer = tiny_tokenizer()
    pinpoints = [[h * image_size, w * image_size] for h, w in ((1, 1), (1, 2), (2, 1), (2, 2))]
    config = LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": image_size,
            "patch_size": 8,
            "vision_use_head": False,
        },
        text_config=text_settings(tokenizer, hidden_size, num_layers) | {"model_type": "qwen2"},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
    )
    size = {"height": image_size, "width": image_size}
    build: Any = LlavaOnevisionProcessor
    processor = build(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(image_size // 8) ** 2,
        vision_feature_select_strategy="full",
        chat_template=LLAVA_TEMPLATE,
    )
    model = seeded_model(LlavaOnevisionForConditionalGeneration, config, seed)
    return TinyModel(model, processor, FAMILIES["llava_onevision"])


def tiny_qwen2_5_vl(*, seed: int = 0, hidden_size: int = 32, num_layers: int = 2) -> TinyModel:
    """Qwen2.5-VL with patches of 4 pixels: a token for 8 x 8 pixels of two frames."""
    tokenizer = tiny_tokenizer()
    half = hidden_size // 4  # two heads: half of a head's size
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 16,
            "out_hidden_size": hidden_size,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.2,
        },
        text_config=text_settings(tokenizer, hidden_size, num_layers)
        | {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [half - 2 * (half * 3 // 8), half * 3 // 8, half * 3 // 8],
            }
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    options: dict[str, Any] = {
        "patch_size": 4,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": 16 * 16, "longest_edge": 48 * 48},
    }
    build: Any = Qwen2_5_VLProcessor
    processor = build(
        image_processor=Qwen2VLImageProcessor(**options),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**options),
        chat_template=QWEN_VL_TEMPLATE,
    )
    model = seeded_model(Qwen2_5_VLForConditionalGeneration, config, seed)
    return TinyModel(model, processor, FAMILIES["qwen2_5_vl"])


def tiny_causal_lm(
    *, seed: int = 0, hidden_size: int = 32, num_layers: int = 2, chat: bool = True
) -> TinyModel:
    """Qwen2, with a chat template or without."""
    tokenizer = tiny_tokenizer(chat_template=CHATML if chat else None)
    config = Qwen2Config(**text_settings(tokenizer, hidden_size, num_layers))
    return TinyModel(seeded_model(Qwen2ForCausalLM, config, seed), tokenizer, FAMILIES["causal_lm"])


TINY_MODELS = {
    "llava_onevision": tiny_llava_onevision,
    "qwen2_5_vl": tiny_qwen2_5_vl,
    "causal_lm": tiny_causal_lm,
}


def tiny_clip(
    num_frames: int = 4, height: int = 32, width: int = 32, *, seed: int = 0, fps: float = 2.0
) -> VideoClip:
    """Frames of random blocks, as if sampled at `fps` from a clip of 24 frames per second."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (num_frames, 4, 4, 3), dtype=np.uint8)
    rows = np.arange(height) * 4 // height
    columns = np.arange(width) * 4 // width
    return VideoClip(
        frames=blocks[:, rows][:, :, columns],
        timestamps_s=np.arange(num_frames) / fps,
        indices=np.round(np.arange(num_frames) * 24 / fps).astype(np.int64),
        fps=24.0,
        decoder="tiny",
        source_hash=f"tiny-{seed}",
    )


def tiny_image(height: int = 32, width: int = 32, *, seed: int = 0) -> np.ndarray[Any, Any]:
    """One frame of `tiny_clip`."""
    frame: np.ndarray[Any, Any] = tiny_clip(1, height, width, seed=seed).frames[0]
    return frame


@cache
def _tokenizer_json(num_merges: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        _WORDS.splitlines(),
        trainers.BpeTrainer(
            vocab_size=len(_SPECIAL) + len(alphabet) + num_merges,
            initial_alphabet=alphabet,
            special_tokens=list(_SPECIAL),
            show_progress=False,
        ),
    )
    return str(tokenizer.to_str())


def text_settings(tokenizer: Any, hidden_size: int, num_layers: int) -> dict[str, Any]:
    """Settings of a text decoder: two heads, one of keys and values."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def seeded_model(model_class: Any, config: Any, seed: int) -> PreTrainedModel:
    """Drawn from its seed alone; what transformers starts at zero or one is drawn as well."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = model_class(config)
        biases: Sequence[torch.Tensor] = [
            p for name, p in model.named_parameters() if name.endswith("bias")
        ]
        with torch.no_grad():
            for bias in biases:
                bias.normal_(std=0.1)
    ready: PreTrainedModel = model.eval()
    return ready
