"""Scenes as pictures and sound, and as video files."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmalign.api import AudioClip, write_video
from mmalign.datasets.shapes.world import FPS, NUM_FRAMES, SIZE, Colour, Kind, Scene, track

__all__ = [
    "SAMPLE_RATE_HZ",
    "TONE_HZ",
    "faded",
    "paint_shape",
    "render_frames",
    "render_sound",
    "render_video",
    "write_clip",
]

Frames = npt.NDArray[np.uint8]

SAMPLE_RATE_HZ = 16_000
TONE_HZ: dict[Kind, float] = {"circle": 262.0, "ring": 392.0, "bar": 523.0, "pole": 784.0}
"""The tone of each kind: a short one when it appears, a held one while it sings."""

_RGB: dict[Colour, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 235),
    "yellow": (235, 215, 50),
    "purple": (190, 60, 210),
    "cyan": (50, 215, 225),
}
_OUTLINE_RGB = (250, 250, 250)
_OUTLINE_WIDTH = 2.5
_BLIP_S, _FADE_S = 0.12, 0.01
_BLIP_LEVEL, _SONG_LEVEL = 0.15, 0.3
_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64) + 0.5


def render_frames(scene: Scene, numbers: Sequence[int] = range(NUM_FRAMES)) -> Frames:
    """Frames of a scene, by default all, [F, SIZE, SIZE, 3]."""
    tracks = [track(shape) for shape in scene.shapes]
    frames = np.full((len(numbers), SIZE, SIZE, 3), float(scene.shade))
    for canvas, number in zip(frames, numbers, strict=True):
        for shape, path in zip(scene.shapes, tracks, strict=True):
            if path.visible[number]:
                paint_shape(
                    canvas,
                    shape.kind,
                    shape.colour,
                    path.x[number],
                    path.y[number],
                    path.radius[number],
                    outlined=shape.sings,
                )
    return np.round(frames).astype(np.uint8)


def render_sound(scene: Scene) -> AudioClip:
    """Mono sound as long as the clip."""
    time_s = np.arange(int(NUM_FRAMES / FPS * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    sound = np.zeros_like(time_s)
    for shape in scene.shapes:
        tone = np.sin(2 * np.pi * TONE_HZ[shape.kind] * time_s)
        age_s = time_s - shape.appears / FPS
        sound += _BLIP_LEVEL * tone * faded((age_s >= 0) & (age_s < _BLIP_S))
        if shape.sings:
            seen = track(shape).visible[(time_s * FPS).astype(np.int64)]
            sound += _SONG_LEVEL * tone * faded(seen)
    return AudioClip(sound[None].astype(np.float32), SAMPLE_RATE_HZ)


def render_video(scene: Scene, path: Path) -> None:
    """Write a scene as H.264 with AAC; several processes may write the same file at once."""
    write_clip(path, render_frames(scene), render_sound(scene))


def write_clip(path: Path, frames: Frames, sound: AudioClip, *, fps: float = FPS) -> None:
    """Write frames with sound; several processes may write the same file at once."""
    partial = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write_video(partial, frames, fps, audio=sound)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _distance(kind: Kind, x: float, y: float, radius: float) -> npt.NDArray[np.float64]:
    """[SIZE, SIZE] pixels to the edge of a shape, negative inside it."""
    across, down = np.abs(_COLUMNS - x), _ROWS - y
    match kind:
        case "circle":
            return np.asarray(np.hypot(across, down) - radius)
        case "ring":
            out = np.hypot(across, down)
            return np.asarray(np.maximum(out - radius, 0.6 * radius - out))
        case "bar":
            return np.asarray(np.maximum(across - 1.3 * radius, np.abs(down) - 0.36 * radius))
        case "pole":
            return np.asarray(np.maximum(np.abs(down) - 1.3 * radius, across - 0.36 * radius))


def _paint(
    frame: npt.NDArray[np.float64], distance: npt.NDArray[np.float64], rgb: tuple[int, int, int]
) -> None:
    """Cover what lies inside, its edge smoothed over one pixel."""
    cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    frame += cover * (np.array(rgb) - frame)


def paint_shape(
    canvas: npt.NDArray[np.float64],
    kind: Kind,
    colour: Colour,
    x: float,
    y: float,
    radius: float,
    *,
    outlined: bool = False,
) -> None:
    """Paint one shape over what is on a canvas of [SIZE, SIZE, 3], places in its pixels."""
    if outlined:
        outer = _distance("circle" if kind == "ring" else kind, x, y, radius)
        _paint(canvas, np.maximum(outer - _OUTLINE_WIDTH, -outer), _OUTLINE_RGB)
    _paint(canvas, _distance(kind, x, y, radius), _RGB[colour])


def faded(on: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """1 where sound is on, 0 elsewhere, with short ramps between so that nothing clicks."""
    ramp = np.full(int(_FADE_S * SAMPLE_RATE_HZ), 1.0)
    return np.convolve(on.astype(np.float64), ramp / ramp.size, mode="same")
