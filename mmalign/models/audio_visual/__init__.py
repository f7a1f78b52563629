"""A language model that sees clips and hears sound, put together from towers that exist."""

from transformers import AutoConfig, AutoModel, AutoModelForMultimodalLM, AutoProcessor

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

# A class that transformers does not ship is found by its Auto classes only once they know it.
AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel, exist_ok=True)
AutoConfig.register(AudioVisualConfig.model_type, AudioVisualConfig, exist_ok=True)
AutoModelForMultimodalLM.register(
    AudioVisualConfig, AudioVisualForConditionalGeneration, exist_ok=True
)
AutoProcessor.register(  # type: ignore[no-untyped-call]  # untyped there
    AudioVisualConfig, AudioVisualProcessor, exist_ok=True
)
