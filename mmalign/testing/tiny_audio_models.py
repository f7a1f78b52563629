"""Tiny random models that hear, of real transformers classes with real processors."""

from typing import Any

import numpy as np
from torch import nn
from transformers import (
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    WhisperFeatureExtractor,
)

from mmalign.media import AudioClip
from mmalign.models.audio_visual import (
    AudioVisualConfig,
    AudioVisualForConditionalGeneration,
    AudioVisualProcessor,
)
from mmalign.models.families import FAMILIES
from mmalign.testing.tiny_models import (
    TinyModel,
    seeded_model,
    text_settings,
    tiny_tokenizer,
    turns_template,
)

__all__ = [
    "AUDIO_VISUAL_TEMPLATE",
    "OMNI_TEMPLATE",
    "QWEN2_AUDIO_TEMPLATE",
    "TINY_AUDIO_MODELS",
    "tiny_audio_visual",
    "tiny_clue_model",
    "tiny_qwen2_5_omni",
    "tiny_qwen2_audio",
    "tiny_sound",
]

_NUM_MEL = 16
_OMNI_TOKENS = {
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "audio_token": "<|AUDIO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_BOTH_TOKENS = ("video_token", "audio_token")

_SOUND = "<|audio_bos|><|AUDIO|><|audio_eos|>"
QWEN2_AUDIO_TEMPLATE = turns_template(audio=f"{_SOUND}\n")
OMNI_TEMPLATE = turns_template(
    image="<|vision_bos|><|IMAGE|><|vision_eos|>",
    video="<|vision_bos|><|VIDEO|><|vision_eos|>",
    audio=_SOUND,
)
AUDIO_VISUAL_TEMPLATE = turns_template(video="<|VIDEO|>", audio="<|AUDIO|>")


def tiny_qwen2_audio(*, seed: int = 0, hidden_size: int = 32, num_layers: int = 2) -> TinyModel:
    """Qwen2-Audio that hears up to a second: 25 tokens."""
    tokens = {name: token for name, token in _OMNI_TOKENS.items() if "audio" in name}
    tokenizer = _tokenizer(tokens)
    extractor = _extractor(chunk_length=1)
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            **_audio_settings(max_source_positions=extractor.nb_max_frames // 2),
        },
        text_config=text_settings(tokenizer, hidden_size, num_layers) | {"model_type": "qwen2"},
        audio_token_index=tokenizer.audio_token_id,
    )
    build: Any = Qwen2AudioProcessor
    processor = build(
        feature_extractor=extractor, tokenizer=tokenizer, chat_template=QWEN2_AUDIO_TEMPLATE
    )
    model = seeded_model(Qwen2AudioForConditionalGeneration, config, seed)
    return TinyModel(model, processor, FAMILIES["qwen2_audio"])


def tiny_qwen2_5_omni(*, seed: int = 0, hidden_size: int = 32, num_layers: int = 2) -> TinyModel:
    """The thinker of Qwen2.5-Omni: sounds of up to two seconds in windows of a fifth.

    Patches are large, 56 pixels: the processor enlarges every clip to 100,352 pixels or more, and
    a clip of two frames shall take 8 tokens and not hundreds.
    """
    tokenizer = _tokenizer(_OMNI_TOKENS)
    third = hidden_size // 4 * 3 // 8
    configure: Any = Qwen2_5OmniThinkerConfig  # vision_start_token_id is none of its fields
    config = configure(
        audio_config=_audio_settings(max_source_positions=100)
        | {"n_window": 10, "output_dim": hidden_size},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 56,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 224,
            "out_hidden_size": hidden_size,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.2,
        },
        text_config=text_settings(tokenizer, hidden_size, num_layers)
        | {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [hidden_size // 4 - 2 * third, third, third],
            }
        },
        audio_token_index=tokenizer.audio_token_id,
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        audio_start_token_id=tokenizer.audio_bos_token_id,
        audio_end_token_id=tokenizer.audio_eos_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        initializer_range=0.2,
    )
    options: dict[str, Any] = {"patch_size": 56, "temporal_patch_size": 2, "merge_size": 2}
    size = {"shortest_edge": 2 * 112 * 112, "longest_edge": 8 * 112 * 112}
    build: Any = Qwen2_5OmniProcessor
    processor = build(
        image_processor=Qwen2VLImageProcessor(**options, size=size),
        video_processor=Qwen2VLVideoProcessor(**options),
        feature_extractor=_extractor(chunk_length=2),
        tokenizer=tokenizer,
        chat_template=OMNI_TEMPLATE,
    )
    model = seeded_model(Qwen2_5OmniThinkerForConditionalGeneration, config, seed)
    return TinyModel(model, processor, FAMILIES["qwen2_5_omni"])


def tiny_audio_visual(
    *,
    seed: int = 0,
    hidden_size: int = 32,
    num_layers: int = 2,
    clue_aggregator: dict[str, Any] | None = None,
) -> TinyModel:
    """mmalign's own class over SigLIP, Whisper and Qwen2: 4 tokens a frame, 25 a second of sound.

    Args:
        seed: Fixes the weights.
        hidden_size: Of the decoder.
        num_layers: The same.
        clue_aggregator: Its settings; None: there is none.
    """
    tokenizer = _tokenizer(
        {name: token for name, token in _OMNI_TOKENS.items() if name in _BOTH_TOKENS}
    )
    extractor = _extractor(chunk_length=2)
    config = AudioVisualConfig(
        text_config=text_settings(tokenizer, hidden_size, num_layers) | {"model_type": "qwen2"},
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
        },
        audio_config=_audio_settings(max_source_positions=extractor.nb_max_frames // 2)
        | {"pad_token_id": 0},
        clue_aggregator=clue_aggregator,
        video_token_id=tokenizer.video_token_id,
        audio_token_id=tokenizer.audio_token_id,
        initializer_range=0.2,
    )
    processor = AudioVisualProcessor.for_config(
        config,
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size={"height": 32, "width": 32}),
        feature_extractor=extractor,
        chat_template=AUDIO_VISUAL_TEMPLATE,
    )
    model = seeded_model(AudioVisualForConditionalGeneration, config, seed)
    return TinyModel(model, processor, FAMILIES["audio_visual"])


def tiny_clue_model(*, seed: int = 0, keep_media_tokens: bool = True) -> TinyModel:
    """`tiny_audio_visual` with a clue aggregator: 3 clues and a global token for each medium."""
    tiny = tiny_audio_visual(
        seed=seed,
        clue_aggregator={
            "num_queries": 3,
            "num_heads": 2,
            "dropout": 0.0,
            "keep_media_tokens": keep_media_tokens,
            "qformer_config": {
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "encoder_hidden_size": 24,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
                "initializer_range": 0.2,
            },
        },
    )
    for module in tiny.model.modules():
        if isinstance(module, nn.MultiheadAttention):  # drawn so narrow that no question matters
            module.out_proj.weight.data.mul_(3.0)
    return tiny


TINY_AUDIO_MODELS = {
    "qwen2_audio": tiny_qwen2_audio,
    "qwen2_5_omni": tiny_qwen2_5_omni,
    "audio_visual": tiny_audio_visual,
}


def tiny_sound(
    duration_s: float = 0.5, *, seed: int = 0, rate_hz: int = 16_000, num_channels: int = 1
) -> AudioClip:
    """Three tones of random pitch over faint noise."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(duration_s * rate_hz)) / rate_hz
    tones = sum(0.2 * np.sin(2 * np.pi * pitch * times) for pitch in rng.uniform(100, 4000, 3))
    noise = 0.02 * rng.standard_normal((num_channels, len(times)))
    return AudioClip((tones + noise).astype(np.float32), rate_hz)


def _extractor(*, chunk_length: int) -> Any:
    build: Any = WhisperFeatureExtractor
    return build(feature_size=_NUM_MEL, chunk_length=chunk_length)


def _audio_settings(*, max_source_positions: int) -> dict[str, Any]:
    return {
        "num_mel_bins": _NUM_MEL,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "d_model": 32,
        "max_source_positions": max_source_positions,
        "initializer_range": 0.2,
    }


def _tokenizer(tokens: dict[str, str]) -> Any:
    """`tiny_tokenizer` with the names under which a processor looks for its placeholders."""
    plain = tiny_tokenizer()
    build: Any = PreTrainedTokenizerFast
    return build(
        tokenizer_object=plain.backend_tokenizer,
        eos_token=plain.eos_token,
        pad_token=plain.pad_token,
        extra_special_tokens=tokens,
    )
