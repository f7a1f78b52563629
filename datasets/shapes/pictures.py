"""Still pictures of shapes, with the box of each: what detection is asked about."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image

from mmalign.datasets.shapes.render import paint_shape
from mmalign.datasets.shapes.world import COLOURS, KINDS, SIZE, Colour, Kind

__all__ = [
    "PICTURE_SIZE",
    "Box",
    "Picture",
    "PlacedShape",
    "draw_picture",
    "render_picture",
    "save_picture",
]

PICTURE_SIZE = 128
"""Height and width of a picture file in pixels; the model's input is SIZE, half as large."""
_SCALE = PICTURE_SIZE // SIZE
_RADII = (4.5, 9.0)
_GAP = 1.0
"""Pixels of the model's input that stay free around every box."""
_HALF: dict[Kind, tuple[float, float]] = {
    "circle": (1.0, 1.0),
    "ring": (1.0, 1.0),
    "bar": (1.3, 0.36),
    "pole": (0.36, 1.3),
}
"""Half of width and height, in radii."""
_MAX_PLACINGS = 200


class Box(NamedTuple):
    """A box by two of its corners, in pixels from the upper left."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class PlacedShape:
    """A shape that stands still; places and radius in pixels of the model's input."""

    kind: Kind
    colour: Colour
    x: float
    y: float
    radius: float

    @property
    def name(self) -> str:
        """Colour and kind, `red circle`."""
        return f"{self.colour} {self.kind}"

    @property
    def box(self) -> Box:
        """In pixels of the model's input."""
        across, down = (half * self.radius for half in _HALF[self.kind])
        return Box(self.x - across, self.y - down, self.x + across, self.y + down)

    @property
    def picture_box(self) -> Box:
        """In pixels of the picture file."""
        return Box(*(_SCALE * edge for edge in self.box))


@dataclass(frozen=True)
class Picture:
    """One to five shapes, of which several may look alike, in no order."""

    id: str
    shapes: tuple[PlacedShape, ...]
    shade: int
    """Grey level of the background, 0 to 255."""


def draw_picture(
    rng: Generator, *, num_shapes_odds: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2, 0.2)
) -> Picture:
    """A random picture.

    Args:
        rng: Source of chance; the picture is a pure function of its state.
        num_shapes_odds: Probabilities of one shape, two and so on.
    """
    num_shapes = 1 + int(rng.choice(len(num_shapes_odds), p=num_shapes_odds))
    shapes: list[PlacedShape] = []
    while len(shapes) < num_shapes:
        shapes = []
        for _ in range(_MAX_PLACINGS):
            shape = _draw_shape(rng)
            if all(_are_apart(shape.box, other.box) for other in shapes):
                shapes.append(shape)
            if len(shapes) == num_shapes:
                break
    shade = int(rng.integers(16, 48))
    key = repr((shapes, shade)).encode()
    return Picture(hashlib.blake2b(key, digest_size=8).hexdigest(), tuple(shapes), shade)


def render_picture(picture: Picture) -> npt.NDArray[np.uint8]:
    """As the model's input shows it, [SIZE, SIZE, 3]."""
    canvas = np.full((SIZE, SIZE, 3), float(picture.shade))
    for shape in picture.shapes:
        paint_shape(canvas, shape.kind, shape.colour, shape.x, shape.y, shape.radius)
    return np.round(canvas).astype(np.uint8)


def save_picture(picture: Picture, path: Path) -> None:
    """Write a picture of PICTURE_SIZE; several processes may write the same file at once."""
    large = render_picture(picture).repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
    partial = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
    try:
        Image.fromarray(large).save(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _draw_shape(rng: Generator) -> PlacedShape:
    kind = KINDS[int(rng.integers(len(KINDS)))]
    colour = COLOURS[int(rng.integers(len(COLOURS)))]
    radius = float(rng.uniform(*_RADII))
    x, y = (
        float(rng.uniform(half * radius + _GAP, SIZE - half * radius - _GAP))
        for half in _HALF[kind]
    )
    return PlacedShape(kind, colour, x, y, radius)


def _are_apart(box: Sequence[float], other: Sequence[float]) -> bool:
    across = box[2] + _GAP <= other[0] or other[2] + _GAP <= box[0]
    return across or box[3] + _GAP <= other[1] or other[3] + _GAP <= box[1]
