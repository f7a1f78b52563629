"""The tiny detector of the shapes world before its supervised training: tokens and tower.

`python -m mmalign.datasets.shapes.detection_model FOLDER` writes what supervised training starts
from.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from numpy.random import Generator
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mmalign.datasets.shapes.detection import PROMPT
from mmalign.datasets.shapes.model import (
    SPECIAL_TOKENS,
    UntrainedModel,
    processor_of_shapes,
    tokenizer_of,
    untrained_model,
)
from mmalign.datasets.shapes.pictures import draw_picture, render_picture
from mmalign.datasets.shapes.tower import Frame, SeenShape, align_tower
from mmalign.datasets.shapes.world import COLOURS, KINDS, SIZE

__all__ = ["NAMES", "detection_tokenizer", "order_numbers", "picture_frame", "save_detector_start"]

_PIECES = ('{"label": "', '", "bbox_2d": [', "]}", ", ", "[", "]")
"""What stands between the numbers and names of the JSON."""
_NUM_WAVES = 16
_EMBEDDING_STD = 0.08
"""As the text model draws its weights."""
NAMES = (*COLOURS, *(f" {kind}" for kind in KINDS))
_PATTERN = r'\{"label": "|", "bbox_2d": \[|\]\}|, |\[|\]|[0-9]+| ?[a-z_0-9]+|[^\sa-z0-9]|\s'


def detection_tokenizer() -> PreTrainedTokenizerFast:
    """Coordinates, names and the pieces of JSON between them are tokens.

    Unlike the words of the world's questions they are joined without blanks, so that text and
    ids are each other's inverse.
    """
    splitter = pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated")
    asked = [piece for piece, _ in splitter.pre_tokenize_str(f" {PROMPT} ")]
    known = [*SPECIAL_TOKENS, *_PIECES, *map(str, range(SIZE + 1)), *NAMES, *asked]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(known))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106  # a word, no secret
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.Fuse()
    return tokenizer_of(backend)


def picture_frame(rng: Generator) -> Callable[[], Frame]:
    """A picture with what its patches show."""
    picture = draw_picture(rng)
    seen = [SeenShape(s.kind, s.colour, s.x, s.y, s.radius) for s in picture.shapes]
    return lambda: Frame(render_picture(picture), seen)


def order_numbers(start: UntrainedModel, *, seed: int) -> None:
    """Give numbers that are close embeddings that are close, in place.

    Each is a mixture of waves of the number with periods from 2 * SIZE down to 8 pixels, so that
    neighbours are told apart and still resemble each other: what is learnt of one coordinate holds
    for those beside it.
    """
    numbers = torch.arange(SIZE + 1, dtype=torch.float32)
    angles = torch.pi * numbers[:, None] * torch.arange(1, _NUM_WAVES + 1) / SIZE
    waves = torch.cat([angles.cos(), angles.sin()], dim=1) / _NUM_WAVES**0.5
    embedding: Any = start.model.get_input_embeddings().weight  # typed as tensor or module
    mixture = torch.randn(
        2 * _NUM_WAVES, embedding.shape[1], generator=torch.Generator().manual_seed(seed)
    )
    known = start.processor.tokenizer.convert_tokens_to_ids([str(n) for n in range(SIZE + 1)])
    with torch.no_grad():
        embedding[known] = _EMBEDDING_STD * waves @ mixture


def save_detector_start(folder: str | Path, *, seed: int = 0, steps: int = 1200) -> None:
    """Write an untrained decoder behind a tower that names and places what its patches show."""
    start = untrained_model(seed, processor_of_shapes(detection_tokenizer()))
    align_tower(start, seed=seed, steps=steps, draw_frame=picture_frame, words=NAMES)
    order_numbers(start, seed=seed)
    start.model.save_pretrained(folder)
    start.processor.save_pretrained(folder)


if __name__ == "__main__":
    save_detector_start(sys.argv[1])
