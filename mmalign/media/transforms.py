"""The operators' arithmetic: which frame stands where, and what becomes of its pixels.

Order functions map a number of frames to [F] positions of the frames shown; paint functions
map [F, H, W, 3] to the same shape. Both draw from the generator that they are given.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmalign.media.clip import Frames

__all__ = [
    "add_noise",
    "crop_frames",
    "freeze_order",
    "grey_frames",
    "kendall_distance",
    "local_shuffle_order",
    "mask_frames",
    "mirror_frames",
    "recolor_frames",
    "shuffle_order",
    "speed_order",
    "window_order",
]

Order = npt.NDArray[np.int64]
Range = tuple[float, float]
Rng = np.random.Generator

_MAX_REDRAWS = 1000


class Box(NamedTuple):
    """Pixels [top, bottom) x [left, right)."""

    top: int
    bottom: int
    left: int
    right: int


def kendall_distance(order: Order) -> float:
    """Share of frame pairs that stand in the wrong order: 0 for the identity, 1 for reversal."""
    num = len(order)
    if num < 2:
        return 0.0
    later = order[None, :] < order[:, None]
    return float(np.triu(later, 1).sum()) / (num * (num - 1) / 2)


def shuffle_order(num: int, rng: Rng, *, by_segments: bool, min_distance: float) -> Order:
    """Frames, or four segments of frames, permuted until far enough from their old order.

    The bound on redraws is never met by chance; behind it stands the reversal, the farthest.
    """
    if num < 2:
        return np.arange(num)
    pieces = np.array_split(np.arange(num), min(4, num) if by_segments else num)
    for _ in range(_MAX_REDRAWS):
        order = np.concatenate([pieces[i] for i in _permutation(len(pieces), rng)])
        if kendall_distance(order) >= min_distance:
            return order
    return np.concatenate(pieces[::-1])


def local_shuffle_order(num: int, rng: Rng, *, num_windows: int) -> Order:
    """Frames permuted inside equal windows, redrawn until at least one frame has moved."""
    windows = np.array_split(np.arange(num), min(num_windows, max(num, 1)))
    if max(len(window) for window in windows) < 2:
        return np.arange(num)
    for _ in range(_MAX_REDRAWS):
        order = np.concatenate([window[_permutation(len(window), rng)] for window in windows])
        if np.any(order != np.arange(num)):
            return order
    return np.concatenate([window[::-1] for window in windows])


def window_order(num: int, rng: Rng, *, ratio: Range) -> Order:
    """A contiguous part, spread evenly over all places."""
    length = min(max(round(rng.uniform(*ratio) * num), 1), num)
    start = int(rng.random() * (num - length + 1))
    order: Order = start + (2 * np.arange(num) + 1) * length // (2 * num)
    return order


def freeze_order(num: int, rng: Rng) -> Order:
    """One frame everywhere."""
    return np.full(num, int(rng.random() * num), dtype=np.int64)


def speed_order(num: int, rng: Rng, *, rates: tuple[float, ...]) -> Order:
    """Frame floor(i * rate) at place i; past the end the last frame stays."""
    rate = rates[int(rng.random() * len(rates))]
    order: Order = np.minimum(np.floor(np.arange(num) * rate).astype(np.int64), num - 1)
    return order


def crop_frames(frames: Frames, rng: Rng, *, area: Range, aspect: Range) -> Frames:
    """The same box of every frame, scaled back to the whole frame bilinearly."""
    height, width = frames.shape[1:3]
    box = _draw_box(height, width, rng, area, aspect)
    return np.stack(
        [
            np.asarray(
                Image.fromarray(frame[box.top : box.bottom, box.left : box.right]).resize(
                    (width, height), Image.Resampling.BILINEAR
                )
            )
            for frame in frames
        ]
    )


def mask_frames(frames: Frames, rng: Rng, *, area: Range, aspect: Range, fill: int) -> Frames:
    """An opaque rectangle at the same place of every frame."""
    box = _draw_box(frames.shape[1], frames.shape[2], rng, area, aspect)
    masked = frames.copy()
    masked[:, box.top : box.bottom, box.left : box.right] = fill
    return masked


def grey_frames(frames: Frames, rng: Rng, *, ratio: float, fill: int) -> Frames:
    """A random share of the frames replaced by plain grey."""
    dropped = frames.copy()
    dropped[_permutation(len(frames), rng)[: round(ratio * len(frames))]] = fill
    return dropped


def mirror_frames(frames: Frames) -> Frames:
    """Left and right exchanged."""
    return np.ascontiguousarray(frames[:, :, ::-1])


def recolor_frames(frames: Frames, rng: Rng, *, mode: str, shift: Range) -> Frames:
    """Every hue moved by the same part of the circle, or all colours taken out."""
    if mode == "grey":
        return np.stack(
            [np.asarray(Image.fromarray(frame).convert("L").convert("RGB")) for frame in frames]
        )
    step = round(rng.uniform(*shift) * 256) % 256
    turned = []
    for frame in frames:
        hsv = np.array(Image.fromarray(frame).convert("HSV"))
        hsv[..., 0] += np.uint8(step)  # wraps at 256, as the circle does
        turned.append(np.asarray(Image.fromarray(hsv, "HSV").convert("RGB")))
    return np.stack(turned)


def add_noise(frames: Frames, rng: Rng, *, sigma: Range) -> Frames:
    """Gaussian noise, its deviation given as a share of the range 0-255, clipped to it."""
    deviation = rng.uniform(*sigma) * 255
    noisy = np.empty_like(frames)
    for place, frame in enumerate(frames):  # frame by frame: float copies of a clip are large
        values = frame + deviation * rng.standard_normal(frame.shape, dtype=np.float32)
        noisy[place] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return noisy


def _permutation(num: int, rng: Rng) -> Order:
    """Fisher-Yates on plain uniform draws, whose stream NumPy keeps from release to release."""
    order = np.arange(num)
    for i in range(num - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        order[i], order[j] = order[j], order[i]
    return order


def _draw_box(height: int, width: int, rng: Rng, area: Range, aspect: Range) -> Box:
    """A box of a share of the frame's area; a side longer than the frame is cut to it.

    Aspect is width over height in pixels; where a side is cut the other grows to keep the area.
    """
    pixels = rng.uniform(*area) * height * width
    ratio = rng.uniform(*aspect)
    box_width = min((pixels * ratio) ** 0.5, width)
    box_height = min(pixels / box_width, height)
    box_width = min(pixels / box_height, width)
    rows, columns = max(round(box_height), 1), max(round(box_width), 1)
    top = int(rng.random() * (height - rows + 1))
    left = int(rng.random() * (width - columns + 1))
    return Box(top, top + rows, left, left + columns)
