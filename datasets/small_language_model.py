"""A small language model for a world of text: untrained, and trained in half precision."""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

__all__ = ["byte_pair_tokenizer", "command", "write_half", "write_untrained"]

_TURNS = ("<system>", "<user>", "<assistant>", "<tool>")
_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
_MAX_TOKENS = 1024
_HIDDEN, _HEADS, _LAYERS = 256, 8, 4


def byte_pair_tokenizer(
    texts: Iterable[str], pieces: Regex, *, num_tokens: int
) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair encoding with a chat template.

    Args:
        texts: What it is trained on.
        pieces: No token spans two matches.
        num_tokens: Size of the vocabulary.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pieces, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens,
        special_tokens=["<pad>", "<end>", *_TURNS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # untyped there
        tokenizer_object=backend,
        pad_token="<pad>",  # noqa: S106  # a word, no secret
        eos_token="<end>",  # noqa: S106
        additional_special_tokens=list(_TURNS),
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=_MAX_TOKENS,
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def write_untrained(tokenizer: PreTrainedTokenizerFast, folder: Path, *, seed: int = 0) -> Path:
    """Write a random Llama of about 3.5 million weights with its tokenizer.

    Args:
        tokenizer: Gives the vocabulary.
        folder: Where they go.
        seed: Fixes the weights; torch's own random state is left as it was.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_HIDDEN,
        intermediate_size=3 * _HIDDEN,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=_MAX_TOKENS,
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
    for name in ("README.md", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(trained / name, folder / name)
    return folder


def command(prog: str, tokenizer: Callable[[], PreTrainedTokenizerFast]) -> None:
    """`FOLDER` writes the untrained model; with `--trained RUN`, what training made of it."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trained", type=Path)
    given = parser.parse_args(sys.argv[1:])
    if given.trained is None:
        write_untrained(tokenizer(), given.folder)
    else:
        write_half(given.trained, given.folder)
