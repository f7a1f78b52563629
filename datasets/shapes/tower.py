"""Teaches the tower to name what its patches show, as the pretraining of real towers does.

A tower that starts from random weights reaches the text model through its language loss alone,
which takes hours on a CPU. Here every patch is told the words of the shape whose centre it holds,
in the embedding space of the text model, so that looking a word up in a clip is easy from the
first step of supervised training on.
"""

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.datasets.shapes.model import UntrainedModel, untrained_model
from mmalign.datasets.shapes.reader import scenes_of
from mmalign.datasets.shapes.render import render_frames
from mmalign.datasets.shapes.world import (
    COLOURS,
    KINDS,
    NUM_FRAMES,
    SIZE,
    Colour,
    Kind,
    Scene,
    track,
)

__all__ = ["Frame", "SeenShape", "align_tower", "embedding_rows", "save_start", "scene_frame"]

_GRID = 4
"""Patches along a side."""
_NUM_NAMES = len(COLOURS) * len(KINDS)
_WORDS = (*COLOURS, *KINDS, "sings")


class SeenShape(NamedTuple):
    """A shape as a frame shows it; places and radius in pixels."""

    kind: Kind
    colour: Colour
    x: float
    y: float
    radius: float
    sings: bool = False


class Frame(NamedTuple):
    """One picture and what is in it."""

    pixels: npt.NDArray[np.uint8]
    """[SIZE, SIZE, 3]."""
    shapes: Sequence[SeenShape]


DrawFrame = Callable[[Generator], Callable[[], Frame]]
"""Makes its random choices at once and renders when called."""


class _Patches(NamedTuple):
    """What the patches of some frames hold, [B, _GRID ** 2] each."""

    shown: Tensor
    """bool: the centre of a shape."""
    name: Tensor
    """int64: number of its colour and kind, _NUM_NAMES where there is none."""
    words: Tensor
    """[..., W] float: 1 for each word that fits."""
    measures: Tensor
    """[..., 3] float: place across and down in [-1, 1], radius about 0."""


def scene_frame(rng: Generator) -> Callable[[], Frame]:
    """A frame of a scene of the sft split."""
    scenes = scenes_of("sft")
    scene, number = scenes[int(rng.integers(len(scenes)))], int(rng.integers(NUM_FRAMES))
    return partial(_scene_frame, scene, number)


def align_tower(
    start: UntrainedModel,
    *,
    seed: int,
    draw_frame: DrawFrame = scene_frame,
    words: Sequence[str] = _WORDS,
    steps: int = 1200,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
) -> list[float]:
    """Train tower, projector and word embeddings in place on single frames.

    Args:
        start: Model and processor; the text decoder is left as it is.
        seed: Fixes which frames are seen.
        draw_frame: By default a frame of the sft split.
        words: Colours, kinds and what else is said of a shape, as the tokenizer knows them.
        steps: 1,200 take about two minutes on two cores.
        batch_size: Frames a step.
        learning_rate: Peak, with a cosine decay.

    Returns:
        The loss of every step.
    """
    model: Any = start.model  # its parts are typed as tensors or modules
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    embedding = model.get_input_embeddings().weight
    rows = embedding_rows(start, words)
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
        picks = [draw_frame(rng) for _ in range(batch_size)]
        pixels, patches = _batch([pick() for pick in picks], start.processor, words)
        features = projector(
            tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
        )
        loss = _loss(features, readout(features), embedding[rows], patches)
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


def embedding_rows(start: UntrainedModel, words: Sequence[str] = _WORDS) -> list[int]:
    """Token ids of the words that patches are named with."""
    return [int(start.processor.tokenizer.convert_tokens_to_ids(word)) for word in words]


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


def _scene_frame(scene: Scene, number: int) -> Frame:
    seen = []
    for shape in scene.shapes:
        path = track(shape)
        if path.visible[number]:
            x, y, radius = (float(values[number]) for values in (path.x, path.y, path.radius))
            seen.append(SeenShape(shape.kind, shape.colour, x, y, radius, shape.sings))
    return Frame(render_frames(scene, [number])[0], seen)


def _batch(
    frames: Sequence[Frame],
    processor: Any,  # transformers' processors share no typed base
    words: Sequence[str],
) -> tuple[Tensor, _Patches]:
    pixels = processor.video_processor(
        [np.stack([frame.pixels for frame in frames])], do_sample_frames=False, return_tensors="pt"
    ).pixel_values_videos[0]
    targets = [_patches(frame.shapes, words) for frame in frames]
    return pixels, _Patches(*(torch.stack(parts) for parts in zip(*targets, strict=True)))


def _patches(shapes: Sequence[SeenShape], words: Sequence[str]) -> _Patches:
    patches = _Patches(
        shown=torch.zeros(_GRID**2, dtype=torch.bool),
        name=torch.full((_GRID**2,), _NUM_NAMES),
        words=torch.zeros(_GRID**2, len(words)),
        measures=torch.zeros(_GRID**2, 3),
    )
    side = SIZE // _GRID
    for shape in shapes:
        place = int(shape.y // side) * _GRID + int(shape.x // side)
        patches.shown[place] = True
        colour, kind = COLOURS.index(shape.colour), KINDS.index(shape.kind)
        patches.name[place] = colour * len(KINDS) + kind
        said = (shape.colour, shape.kind, *(("sings",) if shape.sings else ()))
        patches.words[place] = torch.tensor([float(word.strip() in said) for word in words])
        radius = (shape.radius - 6.5) / 2
        patches.measures[place] = torch.tensor(
            [2 * shape.x / SIZE - 1, 2 * shape.y / SIZE - 1, radius]
        )
    return patches


if __name__ == "__main__":
    save_start(sys.argv[1])
