"""A language model that sees clips and hears sound, put together from towers that exist."""

from mmalign.models.audio_visual.configuration import AudioVisualConfig, ClueAggregatorConfig
from mmalign.models.audio_visual.modeling import AudioVisualForConditionalGeneration
from mmalign.models.audio_visual.processing import AudioVisualProcessor

__all__ = [
    "AudioVisualConfig",
    "AudioVisualForConditionalGeneration",
    "AudioVisualProcessor",
    "ClueAggregatorConfig",
]
