"""Teaches the tower to name what its patches show, as the pretraining of real towers does.

A tower that starts from random weights reaches the text model through its language loss alone,
which takes hours on a CPU. Here every patch is told the words of the shape whose centre it holds,
in the embedding space of the text model, so that looking a word up in a clip is easy from the
first step of supervised training on.
"""

import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.datasets.shapes.model import UntrainedModel, untrained_model
from mmalign.datasets.shapes.reader import scenes_of
from mmalign.datasets.shapes.render import render_frames
from mmalign.datasets.shapes.world import COLOURS, KINDS, NUM_FRAMES, SIZE, Scene, track

__all__ = ["align_tower", "embedding_rows", "save_start"]

_GRID = 4
"""Patches along a side."""
_NUM_NAMES = len(COLOURS) * len(KINDS)
_WORDS = (*COLOURS, *KINDS, "sings")


class _Patches(NamedTuple):
    """What the patches of some frames hold, [B, _GRID ** 2] each."""

    shown: Tensor
    """bool: the centre of a shape."""
    name: Tensor
    """int64: number of its colour and kind, _NUM_NAMES where there is none."""
    words: Tensor
    """[..., len(_WORDS)] float: 1 for each word that fits."""
    measures: Tensor
    """[..., 3] float: place across and down in [-1, 1], radius about 0."""


def align_tower(
    start: UntrainedModel,
    *,
    seed: int,
    steps: int = 1200,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
) -> list[float]:
    """Train tower, projector and word embeddings in place on single frames of the sft split.

    Args:
        start: Model and processor; the text decoder is left as it is.
        seed: Fixes which frames are seen.
        steps: 1,200 take about two minutes on two cores.
        batch_size: Frames a step.
        learning_rate: Peak, with a cosine decay.

    Returns:
        The loss of every step.
    """
    scenes = scenes_of("sft")
    model: Any = start.model  # its parts are typed as tensors or modules
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    embedding = model.get_input_embeddings().weight
    words = embedding_rows(start)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        readout = nn.Linear(embedding.shape[1], _NUM_NAMES + 1 + 3)
    weights = [*tower.parameters(), *projector.parameters(), embedding, *readout.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.01)
    model.train()
    losses: list[float] = []
    for step in range(steps):
        decay = 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1.0, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * decay
        pixels, patches = _draw_batch(rng, scenes, start.processor, batch_size)
        features = projector(
            tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
        )
        loss = _loss(features, readout(features), embedding[words], patches)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped there
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


def save_start(folder: str | Path, *, seed: int = 0, steps: int = 1200) -> None:
    """Write what supervised training starts from: an untrained decoder behind an aligned tower."""
    start = untrained_model(seed)
    align_tower(start, seed=seed, steps=steps)
    start.model.save_pretrained(folder)
    start.processor.save_pretrained(folder)


def embedding_rows(start: UntrainedModel) -> list[int]:
    """Token ids of the words that patches are named with."""
    return [int(start.processor.tokenizer.convert_tokens_to_ids(word)) for word in _WORDS]


def _loss(features: Tensor, readings: Tensor, word_vectors: Tensor, patches: _Patches) -> Tensor:
    """Sum over patches, mean over frames.

    The features of an empty patch are drawn to zero: the model pools four patches into one
    token, in which empty ones would drown the one that shows something.
    """
    shown, frames = patches.shown, len(features)
    name = F.cross_entropy(
        readings[..., : _NUM_NAMES + 1].flatten(0, 1), patches.name.flatten(), reduction="sum"
    )
    measures = F.mse_loss(
        readings[shown][:, _NUM_NAMES + 1 :], patches.measures[shown], reduction="sum"
    )
    words = F.binary_cross_entropy_with_logits(
        4 * features @ word_vectors.T - 4, patches.words, reduction="sum"
    )
    size = 0.016 * features[~shown].square().sum() + 0.003 * features[shown].square().sum()
    return (name + measures + words + size) / frames


def _draw_batch(
    rng: Generator,
    scenes: tuple[Scene, ...],
    processor: Any,  # transformers' processors share no typed base
    size: int,
) -> tuple[Tensor, _Patches]:
    picks = [
        (scenes[int(rng.integers(len(scenes)))], int(rng.integers(NUM_FRAMES))) for _ in range(size)
    ]
    frames = np.concatenate([render_frames(scene, [number]) for scene, number in picks])
    pixels = processor.video_processor(
        [frames], do_sample_frames=False, return_tensors="pt"
    ).pixel_values_videos[0]
    targets = [_patches(scene, number) for scene, number in picks]
    return pixels, _Patches(*(torch.stack(parts) for parts in zip(*targets, strict=True)))


def _patches(scene: Scene, number: int) -> _Patches:
    patches = _Patches(
        shown=torch.zeros(_GRID**2, dtype=torch.bool),
        name=torch.full((_GRID**2,), _NUM_NAMES),
        words=torch.zeros(_GRID**2, len(_WORDS)),
        measures=torch.zeros(_GRID**2, 3),
    )
    side = SIZE // _GRID
    for shape in scene.shapes:
        path = track(shape)
        if not path.visible[number]:
            continue
        x, y = float(path.x[number]), float(path.y[number])
        place = int(y // side) * _GRID + int(x // side)
        patches.shown[place] = True
        colour, kind = COLOURS.index(shape.colour), KINDS.index(shape.kind)
        patches.name[place] = colour * len(KINDS) + kind
        said = (shape.colour, shape.kind, *(("sings",) if shape.sings else ()))
        patches.words[place] = torch.tensor([float(word in said) for word in _WORDS])
        radius = (float(path.radius[number]) - 6.5) / 2
        patches.measures[place] = torch.tensor([2 * x / SIZE - 1, 2 * y / SIZE - 1, radius])
    return patches


if __name__ == "__main__":
    save_start(sys.argv[1])
