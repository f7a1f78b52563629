"""Puts an audio-visual model together from a language model, a vision tower and a sound encoder."""

import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    LlavaOnevisionVideoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    WhisperFeatureExtractor,
)

from mmalign.errors import ConfigError
from mmalign.models.audio_visual.configuration import AudioVisualConfig
from mmalign.models.audio_visual.efficientnet_lite import (
    EfficientNetLiteConfig,
    EfficientNetLiteModel,
)
from mmalign.models.audio_visual.modeling import AudioVisualForConditionalGeneration
from mmalign.models.audio_visual.processing import AudioVisualProcessor
from mmalign.models.audio_visual.whisper_parts import sound_encoder_of

__all__ = ["assemble", "efficientnet_lite_of"]

_PLACEHOLDERS = ("<video>", "<audio>")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FLATTEN_PARTS = (
    "{% set flat = namespace(messages=[]) %}"
    "{% for message in messages %}"
    "{% set text = namespace(value='') %}"
    "{% if message['content'] is string %}{% set text.value = message['content'] %}{% else %}"
    "{% for part in message['content'] or [] %}"
    "{% if part['type'] == 'text' %}{% set text.value = text.value + part['text'] %}"
    "{% else %}{% set text.value = text.value + '<' + part['type'] + '>\n' %}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% set flat.messages = flat.messages + [dict(message, content=text.value)] %}"
    "{% endfor %}"
    "{% set messages = flat.messages %}"
)
"""Goes before the language model's own chat template, which knows texts only."""


class VisionParts(NamedTuple):
    """A tower and what feeds it."""

    tower: PreTrainedModel
    video_processor: Any


def assemble(
    language: str | Path,
    vision: str | Path,
    audio: str | Path,
    out_dir: str | Path,
    *,
    tokens_per_frame: int = 4,
    steps_per_token: int = 4,
    clue_aggregator: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write a model with the weights of its parts between fresh projectors.

    Without media it answers as the language model does. It sees and hears only once its
    projectors, and the embeddings of the two placeholders, have been trained.

    Args:
        language: Folder of a causal language model with a chat template.
        vision: Folder of a vision language model with a SigLIP tower, or the `.pth` file of
            EfficientNet-lite0.
        audio: Folder of a Whisper model, or a `model.bin` of CTranslate2.
        out_dir: Where model and processor are written.
        tokens_per_frame: As in `AudioVisualConfig`.
        steps_per_token: The same.
        clue_aggregator: Settings of `ClueAggregatorConfig`; None: there is none.
        seed: Of the fresh weights; torch's own random state is left as it was.

    Returns:
        The folder.

    Raises:
        ConfigError: A part is not what it should be.
    """
    tokenizer = _tokenizer_of(language)
    if not tokenizer.chat_template:
        raise ConfigError(f"{language}: the language model has no chat template; give one that has")
    tokenizer.add_special_tokens(
        {"extra_special_tokens": list(_PLACEHOLDERS)}, replace_extra_special_tokens=False
    )
    speaker: Any = AutoModelForCausalLM.from_pretrained(language, dtype=torch.float32)
    if len(tokenizer) > speaker.config.vocab_size:
        speaker.resize_token_embeddings(len(tokenizer))
    seeing, hearing = _vision_of(Path(vision)), sound_encoder_of(audio)
    video_id, audio_id = tokenizer.convert_tokens_to_ids(list(_PLACEHOLDERS))
    config = AudioVisualConfig(
        text_config=speaker.config,
        vision_config=seeing.tower.config,
        audio_config=hearing.config,
        clue_aggregator=clue_aggregator,
        video_token_id=video_id,
        audio_token_id=audio_id,
        tokens_per_frame=tokens_per_frame,
        steps_per_token=steps_per_token,
        tie_word_embeddings=speaker.config.tie_word_embeddings,
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = AudioVisualForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(seeing.tower.state_dict())
    model.model.audio_tower.load_state_dict(hearing.state_dict())
    model.model.language_model.load_state_dict(speaker.base_model.state_dict())
    model.lm_head.load_state_dict(speaker.get_output_embeddings().state_dict())
    model.generation_config = speaker.generation_config
    model.save_pretrained(out_dir)
    extractor: Any = WhisperFeatureExtractor
    AudioVisualProcessor.for_config(
        config,
        tokenizer=tokenizer,
        video_processor=seeing.video_processor,
        feature_extractor=extractor(feature_size=hearing.config.num_mel_bins),
        chat_template=_FLATTEN_PARTS + tokenizer.chat_template,
    ).save_pretrained(out_dir)
    return Path(out_dir)


def _tokenizer_of(language: str | Path) -> Any:
    """The tokenizer as it was saved.

    AutoTokenizer takes the class that is usual for the model's type where the saved one is the
    general one, and builds that with rules of its own: words that it does not know vanish.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(language)
    saved = PreTrainedTokenizerFast.from_pretrained(language)
    if tokenizer.backend_tokenizer.to_str() == saved.backend_tokenizer.to_str():
        return tokenizer
    return saved


def efficientnet_lite_of(path: str | Path) -> EfficientNetLiteModel:
    """EfficientNet-lite0 without its classifier.

    Args:
        path: Weights as `efficientnet-lite-pytorch` names them, each part with a leading `_`.

    Raises:
        ConfigError: They are not there, or are those of another model.
    """
    try:
        weights = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{path}: cannot be read as weights: {error}") from error
    model = EfficientNetLiteModel(EfficientNetLiteConfig())
    named = {
        re.sub(r"(^|\.)_", r"\1", name): value
        for name, value in weights.items()
        if not name.startswith("_fc.") and not name.endswith("num_batches_tracked")
    }
    try:
        model.load_state_dict(named)
    except RuntimeError as error:
        raise ConfigError(f"{path}: not the weights of EfficientNet-lite0: {error}") from error
    model.train(False)
    return model


def _vision_of(path: Path) -> VisionParts:
    if path.is_file():
        size = {"height": 224, "width": 224}
        part: Any = LlavaOnevisionVideoProcessor
        return VisionParts(
            efficientnet_lite_of(path),
            part(size=size, image_mean=_IMAGENET_MEAN, image_std=_IMAGENET_STD),
        )
    config: Any = AutoConfig.from_pretrained(path)
    kind = getattr(getattr(config, "vision_config", None), "model_type", None)
    if kind != "siglip_vision_model":
        raise ConfigError(
            f"{path}: a model of type {config.model_type!r} with tower {kind!r}, expected a vision "
            f"language model with a SigLIP tower; give such a folder or EfficientNet-lite0's .pth"
        )
    whole: Any = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32)
    processor: Any = AutoProcessor
    return VisionParts(whole.model.vision_tower, processor.from_pretrained(path).video_processor)
