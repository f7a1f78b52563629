"""The small language model of the world, untrained, with a tokenizer of the world's own texts.

`python -m mmalign.datasets.lookups.model FOLDER` writes it;
`python -m mmalign.datasets.lookups.model FOLDER --halve TRAINED` writes trained weights as float16,
half as large, beside the tokenizer they were trained with.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mmalign.datasets.lookups.reader import read_lessons

__all__ = ["write_halved", "write_untrained"]

_SPECIAL = ("<pad>", "<end>", "<system>", "<user>", "<assistant>", "<tool>")
_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
_PIECE = Regex(r" ?</?[a-z]+>| ?\p{L}+|\d| ?[^\s\p{L}\d]|\s+")
_VOCABULARY = 1280
_HIDDEN, _HEADS, _LAYERS = 256, 8, 4
_NUM_TEXTS = 6_000


def write_untrained(folder: Path, *, seed: int = 0) -> Path:
    """Write model and tokenizer.

    Args:
        folder: Where they go.
        seed: Fixes the weights; torch's own random state is left as it was.
    """
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_HIDDEN,
        intermediate_size=3 * _HIDDEN,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_halved(folder: Path, trained: Path) -> Path:
    """Write trained weights as float16."""
    model = LlamaForCausalLM.from_pretrained(trained, dtype=torch.float16)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(trained).save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level byte-pair encoding in which tags, words and digits stand alone.

    No token spans the border of a tag, so that a transcript has the same tokens whether its parts
    are encoded together or one by one.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECE, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lessons = list(read_lessons(_NUM_TEXTS))
    backend.train_from_iterator(
        [text for lesson in lessons for text in (lesson.prompt[0].text, lesson.response.text)],
        trainer,
    )
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # untyped there
        tokenizer_object=backend,
        pad_token="<pad>",  # noqa: S106  # a word, no secret
        eos_token="<end>",  # noqa: S106
        additional_special_tokens=["<system>", "<user>", "<assistant>", "<tool>"],
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=1024,
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def main(arguments: Sequence[str]) -> None:
    """Write the model that the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m mmalign.datasets.lookups.model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--halve", type=Path, metavar="TRAINED")
    given = parser.parse_args(arguments)
    if given.halve is None:
        write_untrained(given.folder)
    else:
        write_halved(given.folder, given.halve)


if __name__ == "__main__":
    main(sys.argv[1:])
