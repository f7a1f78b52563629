"""A language model that sees clips and hears sound, put together from towers that exist."""

from mmalign.models.audio_visual.assemble import assemble, efficientnet_lite_of
from mmalign.models.audio_visual.configuration import AudioVisualConfig, ClueAggregatorConfig
from mmalign.models.audio_visual.efficientnet_lite import (
    EfficientNetLiteConfig,
    EfficientNetLiteModel,
)
from mmalign.models.audio_visual.modeling import AudioVisualForConditionalGeneration
from mmalign.models.audio_visual.processing import AudioVisualProcessor
from mmalign.models.audio_visual.whisper_parts import sound_encoder_of

__all__ = [
    "AudioVisualConfig",
    "AudioVisualForConditionalGeneration",
    "AudioVisualProcessor",
    "ClueAggregatorConfig",
    "EfficientNetLiteConfig",
    "EfficientNetLiteModel",
    "assemble",
    "efficientnet_lite_of",
    "sound_encoder_of",
]
