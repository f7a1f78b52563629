"""The small audio-visual language model of the bands world, untrained but for its tower.

`python -m mmalign.datasets.bands.model FOLDER` writes it: the tower that can name the shapes of
the shapes world's clips, Whisper's architecture in small, a small decoder with the world's words.
"""

import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from mmalign.api import assemble_audio_visual
from mmalign.datasets.bands.reader import vocabulary

__all__ = ["write_untrained"]

_SPECIAL = ("<pad>", "<unk>", "<end>", "<system>", "<user>", "<assistant>", "<tool>")
_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
_HIDDEN, _HEADS, _LAYERS = 128, 4, 3
_SOUND_WIDTH, _SOUND_LAYERS, _MEL = 64, 2, 80
_STEPS_PER_TOKEN = 5
"""A tenth of a second, five to a beat."""
_SHAPES_MODEL = Path(__file__).resolve().parents[1] / "shapes" / "base_model"


def write_untrained(folder: Path, *, seed: int = 0) -> Path:
    """Write model and processor.

    Text weights are drawn four times as wide as usual, as in the shapes world: with less a model
    of this width stays with what is usually right and does not look.

    Args:
        folder: Where they go.
        seed: Fixes the weights; torch's own random state is left as it was.
    """
    tokenizer = _tokenizer()
    text = Qwen2Config(
        vocab_size=len(tokenizer) + 2,  # the placeholders of clips and sounds
        hidden_size=_HIDDEN,
        intermediate_size=3 * _HIDDEN,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    sound = WhisperConfig(
        d_model=_SOUND_WIDTH,
        encoder_layers=_SOUND_LAYERS,
        encoder_attention_heads=_HEADS,
        encoder_ffn_dim=4 * _SOUND_WIDTH,
        decoder_layers=1,
        decoder_attention_heads=_HEADS,
        decoder_ffn_dim=_SOUND_WIDTH,
        num_mel_bins=_MEL,
        vocab_size=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    with tempfile.TemporaryDirectory() as parts, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        language, audio = Path(parts) / "language", Path(parts) / "audio"
        Qwen2ForCausalLM(text).save_pretrained(language)
        tokenizer.save_pretrained(language)
        WhisperModel(sound).save_pretrained(audio)
        WhisperFeatureExtractor(feature_size=_MEL).save_pretrained(audio)  # type: ignore[no-untyped-call]  # transformers
        return assemble_audio_visual(
            language, _SHAPES_MODEL, audio, folder, steps_per_token=_STEPS_PER_TOKEN, seed=seed
        )


def _tokenizer() -> PreTrainedTokenizerFast:
    words = {word: place for place, word in enumerate((*_SPECIAL, *vocabulary()))}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106  # a word, no secret
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # untyped there
        tokenizer_object=backend,
        unk_token="<unk>",  # noqa: S106
        pad_token="<pad>",  # noqa: S106
        eos_token="<end>",  # noqa: S106
        additional_special_tokens=["<system>", "<user>", "<assistant>", "<tool>"],
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=1024,
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


if __name__ == "__main__":
    write_untrained(Path(sys.argv[1]))
