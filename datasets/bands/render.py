"""Scenes of the bands world as pictures and sound, drawn and tuned as the shapes world is."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmalign.api import AudioClip
from mmalign.datasets.bands.world import BEAT_S, NUM_BEATS, Scene
from mmalign.datasets.shapes.render import (
    SAMPLE_RATE_HZ,
    TONE_HZ,
    faded,
    write_clip,
)
from mmalign.datasets.shapes.render import render_frames as render_shapes
from mmalign.datasets.shapes.world import NUM_FRAMES, Shape
from mmalign.datasets.shapes.world import Scene as ShapesScene

__all__ = ["render_frames", "render_sound", "render_video"]


def render_frames(scene: Scene) -> npt.NDArray[np.uint8]:
    """All frames, [NUM_FRAMES, SIZE, SIZE, 3]; players and silent shapes look alike."""
    shapes = tuple(
        Shape(
            kind=player.kind,
            colour=player.colour,
            action="move",
            direction="down",
            x=player.x,
            y=player.y,
            speed=player.speed,
            appears=0,
            vanishes=NUM_FRAMES,
            sings=False,
        )
        for player in scene.players
        if player.place is not None
    )
    return render_shapes(ShapesScene(scene.id, shapes, scene.shade))


def render_sound(scene: Scene) -> AudioClip:
    """Mono sound as long as the clip: the tones of those that play, each at its level."""
    time_s = np.arange(int(NUM_BEATS * BEAT_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    sound = np.zeros_like(time_s)
    for player in scene.players:
        if player.beats is not None:
            start_s, end_s = (player.beats.first - 1) * BEAT_S, player.beats.last * BEAT_S
            tone = np.sin(2 * np.pi * TONE_HZ[player.kind] * time_s)
            sound += player.level * tone * faded((time_s >= start_s) & (time_s < end_s))
    return AudioClip(sound[None].astype(np.float32), SAMPLE_RATE_HZ)


def render_video(scene: Scene, path: Path) -> None:
    """Write a scene as H.264 with AAC; several processes may write the same file at once."""
    write_clip(path, render_frames(scene), render_sound(scene))
