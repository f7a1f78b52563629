"""Model families: what training and in-process generation need to know of an architecture."""

from typing import Any

from transformers import AutoConfig, AutoProcessor

from mmalign.errors import ConfigError
from mmalign.models.families.audio_visual import AudioVisual
from mmalign.models.families.causal_lm import CausalLM
from mmalign.models.families.llava_onevision import LlavaOnevision
from mmalign.models.families.loading import load_processor
from mmalign.models.families.placing import place_media
from mmalign.models.families.protocol import (
    DecodedMedia,
    EncodedCompletion,
    EncodedPrompt,
    ModelFamily,
    PreparedMedia,
    WritesClips,
)
from mmalign.models.families.qwen2_5_omni import Qwen25Omni
from mmalign.models.families.qwen2_5_vl import Qwen25VL
from mmalign.models.families.qwen2_audio import Qwen2Audio
from mmalign.models.families.qwen3_vl import Qwen3VL
from mmalign.models.families.smolvlm import SmolVLM
from mmalign.models.families.sound import sound_rate_hz
from mmalign.models.families.vision import AUDIO, VIDEO, media_kinds

__all__ = [
    "AUDIO",
    "FAMILIES",
    "VIDEO",
    "DecodedMedia",
    "EncodedCompletion",
    "EncodedPrompt",
    "ModelFamily",
    "PreparedMedia",
    "WritesClips",
    "family_for",
    "family_of",
    "media_kinds",
    "place_media",
    "processor_of",
    "sound_rate_hz",
]

FAMILIES: dict[str, ModelFamily] = {
    "llava_onevision": LlavaOnevision(),
    "qwen2_5_vl": Qwen25VL(),
    "qwen3_vl": Qwen3VL(),
    "smolvlm": SmolVLM(),
    "qwen2_audio": Qwen2Audio(),
    "qwen2_5_omni": Qwen25Omni(),
    "audio_visual": AudioVisual(),
    "causal_lm": CausalLM(),
}


def family_for(model_type: Any) -> ModelFamily:
    """The family that serves a model.

    Args:
        model_type: `config.model_type`, a config, or a model.

    Raises:
        ConfigError: No family does.
    """
    config = getattr(model_type, "config", model_type)
    name = config if isinstance(config, str) else config.model_type
    multimodal = any(hasattr(config, part) for part in ("vision_config", "audio_config"))
    for family in FAMILIES.values():
        if name in family.model_types and not (family.name == "causal_lm" and multimodal):
            return family
    seen = sorted(t for f in FAMILIES.values() if f.name != "causal_lm" for t in f.model_types)
    raise ConfigError(
        f"no family serves model type {name!r}; supported are {', '.join(seen)} and every causal "
        f"language model of transformers that is only text"
    )


def family_of(path: str, *, revision: str | None = None) -> ModelFamily:
    """The family that serves the model in a folder or on the hub.

    Raises:
        ConfigError: There is no such model, or no family serves it.
    """
    try:
        config = AutoConfig.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise ConfigError(f"model {path!r} cannot be found: {error}") from error
    return family_for(config)


def processor_of(path: str, *, revision: str | None = None) -> Any:
    """The processor (of a text model: the tokenizer) of the model in a folder or on the hub.

    Raises:
        ConfigError: There is none.
    """
    return load_processor(AutoProcessor, path, revision=revision)
