"""Settings of the audio-visual language model and of its clue aggregator."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import (
    AutoConfig,
    Blip2QFormerConfig,
    PreTrainedConfig,
    WhisperConfig,
)
from transformers.configuration_utils import SubConfigSpec

__all__ = ["AudioVisualConfig", "ClueAggregatorConfig"]


@strict
class ClueQFormerConfig(Blip2QFormerConfig):  # type: ignore[no-untyped-call]  # untyped there
    """A Q-former as CAT's: 4 layers of BLIP-2's 12."""

    num_hidden_layers: int = 4


@strict
class ClueAggregatorConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]  # untyped there
    """Sizes of the clue aggregator; its width is that of the text decoder.

    Source: CAT (Ye et al., 2024) and its released code: 4 heads, dropout 0.1, 32 queries, a
    Q-former of 4 layers that looks at the media in every second one.
    """

    model_type = "clue_aggregator"
    sub_configs_defaults = {"qformer_config": SubConfigSpec(config_class=ClueQFormerConfig)}

    qformer_config: Any = None
    """Of each of the two Q-formers; `encoder_hidden_size` is the width of what they look at."""
    num_queries: int = 32
    """Clue tokens of a clip, and of a sound."""
    num_heads: int = 4
    dropout: float | int = 0.1
    keep_media_tokens: bool = False
    """Whether the decoder reads the medium's own tokens before its clues, or clues only."""


@strict
class AudioVisualConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]  # untyped there
    """Towers, text decoder, and how many tokens a frame and a second of sound take.

    `text_config` is that of any causal language model, `vision_config` that of a tower without a
    class token (SigLIP, EfficientNet-lite), `audio_config` Whisper's; each is given as a config or
    as a dictionary, and is a config afterwards.
    """

    model_type = "audio_visual"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="qwen2"),
        "vision_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="siglip_vision_model",
            init_kwargs={"vision_use_head": False},
        ),
        "audio_config": SubConfigSpec(config_class=WhisperConfig),
        "clue_aggregator": SubConfigSpec(config_class=ClueAggregatorConfig, optional=True),
    }

    text_config: Any = None
    vision_config: Any = None
    audio_config: Any = None
    clue_aggregator: Any = None
    video_token_id: int = 0
    audio_token_id: int = 1
    tokens_per_frame: int = 4
    """A square number: the tower's grid of patches is averaged down to its side."""
    steps_per_token: int = 2
    """Steps of the sound encoder, 20 ms each, whose mean is one token."""
    initializer_range: float = 0.02
    """Of the projectors and the aggregator; each tower has its own."""
    tie_word_embeddings: bool = False

    @property
    def num_clue_tokens(self) -> int:
        """Tokens that the aggregator gives for a medium: its clues and the global one."""
        return self.clue_aggregator.num_queries + 1 if self.clue_aggregator else 0

    @property
    def keep_media_tokens(self) -> bool:
        """Whether the decoder reads the tokens of a medium itself."""
        return self.clue_aggregator is None or bool(self.clue_aggregator.keep_media_tokens)
