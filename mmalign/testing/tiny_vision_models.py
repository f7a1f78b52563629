"""More tiny random models that see, of real transformers classes with real processors."""

from typing import Any

from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

from mmalign.models.families import FAMILIES
from mmalign.testing.packages import require_package
from mmalign.testing.tiny_models import (
    QWEN_VL_TEMPLATE,
    TinyModel,
    seeded_model,
    text_settings,
    tiny_tokenizer,
)

__all__ = ["TINY_VISION_MODELS", "tiny_qwen3_vl", "tiny_smolvlm"]

_TILE_NAMES = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]


def tiny_qwen3_vl(*, seed: int = 0, hidden_size: int = 32, num_layers: int = 2) -> TinyModel:
    """Qwen3-VL with patches of 4 pixels: a token for 8 x 8 pixels of two frames.

    Two decoder layers are given features of their own, of the tower's first and second layer.
    """
    tokenizer = tiny_tokenizer()
    half = hidden_size // 4  # two heads: half of a head's size
    config = Qwen3VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": hidden_size,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": 0.2,
        },
        text_config=text_settings(tokenizer, hidden_size, num_layers)
        | {
            "head_dim": hidden_size // 2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [half - 2 * (half * 3 // 8), half * 3 // 8, half * 3 // 8],
                "mrope_interleaved": True,
            },
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    options: dict[str, Any] = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
    build: Any = Qwen3VLProcessor
    processor = build(
        image_processor=Qwen2VLImageProcessor(
            **options, size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(  # pixels of the whole clip
            **options, size={"shortest_edge": 2 * 16 * 16, "longest_edge": 4 * 48 * 48}
        ),
        chat_template=QWEN_VL_TEMPLATE,
    )
    model = seeded_model(Qwen3VLForConditionalGeneration, config, seed)
    return TinyModel(model, processor, FAMILIES["qwen3_vl"])


def tiny_smolvlm(*, seed: int = 0, hidden_size: int = 32, num_layers: int = 2) -> TinyModel:
    """SmolVLM over SigLIP and Llama: 4 tokens a frame or tile of 32 x 32 pixels."""
    require_package("num2words")
    build: Any = PreTrainedTokenizerFast
    tokenizer = build(
        tokenizer_object=tiny_tokenizer().backend_tokenizer,
        eos_token="<end_of_utterance>",  # noqa: S106  # no secret
        pad_token="<|endoftext|>",  # noqa: S106
        extra_special_tokens=["<fake_token_around_image>", "<global-img>", *_TILE_NAMES],
    )
    config = SmolVLMConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "initializer_range": 0.2,
        },
        text_config=text_settings(tokenizer, hidden_size, num_layers) | {"model_type": "llama"},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    sizes: dict[str, Any] = {
        "size": {"longest_edge": 64},
        "max_image_size": {"longest_edge": 32},
    }
    build = SmolVLMProcessor
    processor = build(
        image_processor=SmolVLMImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(**sizes),
        image_seq_len=4,
        chat_template=DEFAULT_CHAT_TEMPLATE,
    )
    model = seeded_model(SmolVLMForConditionalGeneration, config, seed)
    return TinyModel(model, processor, FAMILIES["smolvlm"])


TINY_VISION_MODELS = {"qwen3_vl": tiny_qwen3_vl, "smolvlm": tiny_smolvlm}
