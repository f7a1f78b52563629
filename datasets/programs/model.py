"""The small code model of the world, untrained, with a tokenizer of the world's own texts.

`python -m mmalign.datasets.programs.model FOLDER` writes it; with `--trained RUN` it writes what
training made of it instead, in half precision.
"""

import argparse
import shutil
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mmalign.datasets.programs.reader import read_lessons

__all__ = ["write_half", "write_untrained"]

_SPECIAL = ("<pad>", "<end>", "<system>", "<user>", "<assistant>", "<tool>")
_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
_VOCABULARY = 1024
_HIDDEN, _HEADS, _LAYERS = 256, 8, 4
_NUM_TEXTS = 5_000
_PIECES = Regex(
    "[a-zA-Z](?=[a-zA-Z]*')|', '"  # letters of a string literal, and what stands between two
    r"|,? ?-?\d+"  # a number with the comma before it: lists are half as long
    "| ?[a-zA-Z_]+|,|\n *"
    r"| ?[^\sa-zA-Z0-9_,]+|\s+"
)


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


def write_half(trained: Path, folder: Path) -> Path:
    """Write a trained model in float16, which halves the file, with its tokenizer and card.

    Args:
        trained: Where training has put it.
        folder: Where it goes.
    """
    model = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float16)
    model.save_pretrained(folder)
    for name in (
        "README.md",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        shutil.copy(trained / name, folder / name)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level byte-pair encoding of pieces that make it easy to copy a list or a string."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, "isolated"),
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
        [text for lesson in lessons for text in (lesson.question, lesson.answer or "")], trainer
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mmalign.datasets.programs.model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trained", type=Path)
    given = parser.parse_args()
    if given.trained is None:
        write_untrained(given.folder)
    else:
        write_half(given.trained, given.folder)
