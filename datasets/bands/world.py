"""Scenes of shapes that play: who is seen where, who is heard when, and how loudly."""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

from numpy.random import Generator

from mmalign.datasets.shapes.world import COLOURS, KINDS, SIZE, Colour, Kind

__all__ = [
    "BEAT_S",
    "LEVELS",
    "NUM_BEATS",
    "PLACES",
    "Beats",
    "Place",
    "Player",
    "Scene",
    "draw_scene",
]

Place = Literal["left", "middle", "right"]
PLACES: tuple[Place, ...] = get_args(Place)

NUM_BEATS = 4
BEAT_S = 0.5
"""A clip lasts four beats, two seconds."""

LEVELS = (0.08, 0.16, 0.32)
"""Amplitudes, 6 dB apart; no two players of a scene are equally loud."""

_CENTRE_X: dict[Place, float] = {"left": 13.0, "middle": 32.0, "right": 51.0}
_NUM_SEEN_ODDS = (0.2, 0.35, 0.45)
_HIDDEN_ODDS = 0.4


@dataclass(frozen=True)
class Beats:
    """When a tone is heard, from the start of one beat to the end of another, counted from 1."""

    first: int
    last: int

    @property
    def num_beats(self) -> int:
        """How long it is."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Player:
    """A shape that is seen, heard, or both. Nothing that is seen tells whether it plays."""

    kind: Kind
    colour: Colour
    place: Place | None
    """None: off screen."""
    beats: Beats | None
    """None: silent."""
    level: float
    """Amplitude of its tone; 0 where it is silent."""
    x: float
    """Centre in pixels from the left."""
    y: float
    """Centre in pixels from the top, in the first frame."""
    speed: float
    """Pixels a frame downwards; negative upwards."""


@dataclass(frozen=True)
class Scene:
    """A whole clip. Kinds and colours occur at most once, so that a tone names its shape."""

    id: str
    players: tuple[Player, ...]
    """Those that are seen, from one to three, then at most one that is only heard."""
    shade: int
    """Grey level of the background, 0 to 255."""


def draw_scene(rng: Generator) -> Scene:
    """A random scene; no two tones begin on the same beat."""
    num_seen = 1 + int(rng.choice(len(PLACES), p=_NUM_SEEN_ODDS))
    num_playing = int(rng.integers(num_seen + 1))
    is_hidden = num_playing < len(LEVELS) and rng.random() < _HIDDEN_ODDS
    num_players = num_seen + is_hidden
    kinds = [KINDS[number] for number in rng.permutation(len(KINDS))]
    colours = [COLOURS[number] for number in rng.permutation(len(COLOURS))]
    places = [PLACES[number] for number in rng.permutation(len(PLACES))]
    playing = {int(number) for number in rng.permutation(num_seen)[:num_playing]}
    playing |= set(range(num_seen, num_players))
    starts = [int(beat) + 1 for beat in rng.permutation(NUM_BEATS)]
    levels = [float(level) for level in rng.permutation(LEVELS)]
    players = []
    for number in range(num_players):
        place = places[number] if number < num_seen else None
        beats, level = None, 0.0
        if number in playing:
            start = starts.pop()
            beats, level = Beats(start, int(rng.integers(start, NUM_BEATS + 1))), levels.pop()
        shift, y = float(rng.uniform(-1.5, 1.5)), float(rng.uniform(0.25 * SIZE, 0.75 * SIZE))
        speed = float(rng.uniform(-0.4, 0.4)) if rng.random() < 0.5 else 0.0
        x = 0.0 if place is None else _CENTRE_X[place] + shift
        players.append(Player(kinds[number], colours[number], place, beats, level, x, y, speed))
    shade = int(rng.integers(16, 48))
    key = repr((players, shade)).encode()
    return Scene(hashlib.blake2b(key, digest_size=8).hexdigest(), tuple(players), shade)
