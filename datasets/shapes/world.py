"""Scenes of coloured shapes: what is there, what each does, when it is seen, which one sings."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

__all__ = [
    "ACTIONS",
    "COLOURS",
    "DIRECTIONS",
    "FPS",
    "KINDS",
    "NUM_FRAMES",
    "SIZE",
    "Action",
    "Colour",
    "Direction",
    "Kind",
    "Scene",
    "Shape",
    "Track",
    "draw_scene",
    "track",
]

T = TypeVar("T")

Kind = Literal["circle", "ring", "bar", "pole"]
Colour = Literal["red", "green", "blue", "yellow", "purple", "cyan"]
Direction = Literal["left", "right", "up", "down"]
Action = Literal["move", "grow", "shrink", "blink", "vanish", "collide"]

KINDS: tuple[Kind, ...] = get_args(Kind)
COLOURS: tuple[Colour, ...] = get_args(Colour)
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
ACTIONS: tuple[Action, ...] = get_args(Action)

SIZE = 64
"""Height and width of a frame in pixels."""
NUM_FRAMES = 16
FPS = 8.0

_STEP: dict[Direction, tuple[float, float]] = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
}
_OPPOSITE: dict[Direction, Direction] = {
    "left": "right",
    "right": "left",
    "up": "down",
    "down": "up",
}
_RADIUS = 6.5
_LARGE, _SMALL = 9.0, 4.0
"""Radius before and after shrinking, or after and before growing."""
_LENGTH: dict[Kind, float] = {"circle": 1.0, "ring": 1.0, "bar": 1.3, "pole": 1.3}
"""Half the longest side in radii."""
_GAP = 2.0
"""Pixels that stay free between shapes, and between a shape and the border."""
_APPEARS_AT = (0, 4, 7)
"""Far enough apart that eight frames of sixteen show which came first."""
_MAX_PLACINGS = 200

_USUAL_COLOUR: dict[Kind, Colour] = {
    "circle": "red",
    "ring": "blue",
    "bar": "green",
    "pole": "yellow",
}
_USUAL_ACTION: dict[Kind, Action] = {
    "circle": "move",
    "ring": "grow",
    "bar": "blink",
    "pole": "vanish",
}
_USUAL_DIRECTION: dict[Colour, Direction] = {
    "red": "left",
    "green": "right",
    "blue": "up",
    "yellow": "down",
    "purple": "left",
    "cyan": "up",
}


@dataclass(frozen=True)
class Shape:
    """One shape and all that happens to it."""

    kind: Kind
    colour: Colour
    action: Action
    direction: Direction | None
    """Where it goes at first; None unless it moves or collides."""
    x: float
    """Centre in pixels from the left, in the frame in which it appears."""
    y: float
    speed: float
    """Pixels a frame."""
    appears: int
    """First frame in which it is seen."""
    vanishes: int
    """First frame in which it is gone for good; NUM_FRAMES if it stays."""
    sings: bool
    """It wears a white outline and holds its tone as long as it is seen."""

    @property
    def name(self) -> str:
        """Colour and kind, `red circle`."""
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """A whole clip. Kinds and colours occur at most once, so that names are unique."""

    id: str
    shapes: tuple[Shape, ...]
    """One to three, in order of appearance; exactly one sings."""
    shade: int
    """Grey level of the background, 0 to 255."""

    @property
    def singer(self) -> Shape:
        """The shape that makes the sound."""
        return next(shape for shape in self.shapes if shape.sings)


@dataclass(frozen=True)
class Track:
    """A shape frame by frame, [NUM_FRAMES] each, in pixels."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    radius: npt.NDArray[np.float64]
    visible: npt.NDArray[np.bool_]


def track(shape: Shape) -> Track:
    """Where a shape is, how large, and whether it is seen."""
    frame = np.arange(NUM_FRAMES)
    age = np.maximum(frame - shape.appears, 0).astype(np.float64)
    last = NUM_FRAMES - 1 - shape.appears
    visible = (frame >= shape.appears) & (frame < shape.vanishes)
    radius = np.full(NUM_FRAMES, _RADIUS)
    way = shape.speed * age
    match shape.action:
        case "collide":  # there and back
            way = shape.speed * np.minimum(age, last - age)
        case "grow":
            radius = _SMALL + (_LARGE - _SMALL) * age / last
        case "shrink":
            radius = _LARGE - (_LARGE - _SMALL) * age / last
        case "blink":
            visible &= (age.astype(np.int64) // 2) % 2 == 0
    dx, dy = _STEP[shape.direction] if shape.direction else (0.0, 0.0)
    return Track(shape.x + dx * way, shape.y + dy * way, radius, visible)


def draw_scene(
    rng: Generator,
    *,
    bias: float = 0.0,
    num_shapes_odds: tuple[float, float, float] = (0.2, 0.4, 0.4),
) -> Scene:
    """A random scene.

    Args:
        rng: Source of chance; the scene is a pure function of its state.
        bias: Probability in [0, 1] that a colour, an action or a direction is the one that
            usually goes with the kind or colour (circles are red and move, red things go
            left ...) instead of an evenly drawn one. Who learns in a biased world expects
            what usually goes together.
        num_shapes_odds: Probabilities of one, two and three shapes.
    """
    num_shapes = int(rng.choice((1, 2, 3), p=num_shapes_odds))
    while True:
        plan = _draw_plan(rng, num_shapes, bias=bias)
        for _ in range(_MAX_PLACINGS):
            shapes = _placed(rng, plan)
            if _fit(shapes):
                shade = int(rng.integers(16, 48))
                key = repr((shapes, shade)).encode()
                return Scene(hashlib.blake2b(key, digest_size=8).hexdigest(), shapes, shade)


def _draw_plan(rng: Generator, num_shapes: int, *, bias: float) -> list[Shape]:
    """What the shapes are and do, not yet where; two may be about to collide."""
    collide = num_shapes > 1 and rng.random() < 0.15
    appears = sorted([0, *(_pick(rng, _APPEARS_AT) for _ in range(num_shapes - 1))])
    singer = int(rng.integers(num_shapes))
    plan: list[Shape] = []
    for place, kind_index in enumerate(rng.permutation(len(KINDS))[:num_shapes]):
        kind = KINDS[kind_index]
        free = [colour for colour in COLOURS if colour not in {shape.colour for shape in plan}]
        colour = _USUAL_COLOUR[kind]
        if colour not in free or rng.random() >= bias:
            colour = _pick(rng, free)
        action, direction = _draw_action(rng, kind, colour, bias=bias)
        start = appears[place]
        if collide and place < 2:
            action, start = "collide", 0
            direction = _pick(rng, DIRECTIONS)
            if place == 1 and plan[0].direction is not None:
                direction = _OPPOSITE[plan[0].direction]
        vanishes = start + int(rng.integers(5, 8)) if action == "vanish" else NUM_FRAMES
        plan.append(
            Shape(
                kind=kind,
                colour=colour,
                action=action,
                direction=direction,
                x=0.0,
                y=0.0,
                speed=0.0,
                appears=start,
                vanishes=vanishes,
                sings=place == singer,
            )
        )
    return plan


def _draw_action(
    rng: Generator, kind: Kind, colour: Colour, *, bias: float
) -> tuple[Action, Direction | None]:
    action = _USUAL_ACTION[kind]
    if rng.random() >= bias:
        action = _pick(rng, ("move", "move", "grow", "shrink", "blink", "vanish"))
    if action != "move":
        return action, None
    return action, _USUAL_DIRECTION[colour] if rng.random() < bias else _pick(rng, DIRECTIONS)


def _placed(rng: Generator, plan: Sequence[Shape]) -> tuple[Shape, ...]:
    """The plan at random places, with room for every way to go."""
    placed: list[Shape] = []
    for shape in plan:
        reach = _reach(shape)
        x, y = (float(place) for place in rng.uniform(reach, SIZE - reach, size=2))
        dx, dy = _STEP[shape.direction] if shape.direction else (0.0, 0.0)
        speed = 0.0
        if shape.action == "move":
            way = float(rng.uniform(20.0, 32.0))
            speed = way / (NUM_FRAMES - 1 - shape.appears)
            start = rng.uniform(reach, SIZE - reach - way)
            x = float(start + way * max(-dx, 0.0)) if dx else x
            y = float(start + way * max(-dy, 0.0)) if dy else y
        elif shape.action == "collide" and not placed:
            speed = float(rng.uniform(1.4, 1.8))
        elif shape.action == "collide":  # from as far on the other side of the meeting point
            first = placed[0]
            speed = first.speed
            apart = 2 * speed * ((NUM_FRAMES - 1) // 2) + 2 * _RADIUS - 1.0
            x, y = first.x - dx * apart, first.y - dy * apart
        placed.append(replace(shape, x=x, y=y, speed=speed))
    return tuple(placed)


def _fit(shapes: Sequence[Shape]) -> bool:
    """Whether all stay inside the frame and only those touch that are to collide."""
    tracks = [track(shape) for shape in shapes]
    for place, (shape, here) in enumerate(zip(shapes, tracks, strict=True)):
        centres = np.concatenate([here.x, here.y])
        reach = _reach(shape) - 0.5
        if centres.min() < reach or centres.max() > SIZE - reach:
            return False
        for other, there in zip(shapes[:place], tracks[:place], strict=True):
            if shape.action == other.action == "collide":
                continue
            apart = np.hypot(here.x - there.x, here.y - there.y)
            room = _LENGTH[shape.kind] * here.radius + _LENGTH[other.kind] * there.radius + _GAP
            if (apart < room).any():
                return False
    return True


def _reach(shape: Shape) -> float:
    radius = _LARGE if shape.action in ("grow", "shrink") else _RADIUS
    return _GAP + _LENGTH[shape.kind] * radius


def _pick(rng: Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
