"""The augmentation table: changes of a clip described as data, applied each time it is read.

Where PaMi-VDPO's parameters are given they are mmalign's reading: the paper names crop, shuffle
and reverse, its code is not published.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field

from mmalign.config import Config, validate
from mmalign.errors import ConfigError, ShapeError
from mmalign.media import transforms
from mmalign.media.clip import Frames, VideoClip
from mmalign.media.transforms import Order, Rng
from mmalign.records import MediaOperation, MediaRef

__all__ = [
    "GREY",
    "LIGHT_GREY",
    "OPERATORS",
    "Operator",
    "Stage",
    "apply_operation",
    "frame_order",
    "operation",
]

Stage = Literal["before_sampling", "after_sampling"]

GREY = 128
LIGHT_GREY = 211


def _rises(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"bounds {bounds} are empty; give the smaller first")
    return bounds


Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[tuple[Share, Share], AfterValidator(_rises)]
Ratio = Annotated[float, Field(gt=0)]
Ratios = Annotated[tuple[Ratio, Ratio], AfterValidator(_rises)]
Byte = Annotated[int, Field(ge=0, le=255)]


class NoParams(Config):
    """An operator without parameters."""


class CropParams(Config):
    """Uniform draws for the box that is kept."""

    area: Shares = (0.2, 0.5)
    """Share of the frame's area."""
    aspect: Ratios = (3 / 4, 4 / 3)
    """Width over height, in pixels."""


class MaskParams(Config):
    """Uniform draws for the rectangle that is painted over."""

    area: Shares = (0.25, 0.5)
    aspect: Ratios = (3 / 4, 4 / 3)
    fill: Byte = LIGHT_GREY


class ShuffleParams(Config):
    """How far the new order lies from the old one."""

    granularity: Literal["frame", "segments"] = "frame"
    """Single frames, or four segments that keep their inner order."""
    min_distance: Annotated[float, Field(ge=0, le=0.5)] = 0.25
    """Kendall distance to the old order below which it is drawn again."""


class LocalShuffleParams(Config):
    """Windows that frames do not leave."""

    num_windows: Annotated[int, Field(ge=1)] = 4


class WindowParams(Config):
    """Share of the clip that stays."""

    ratio: Shares = (0.25, 0.5)


class SpeedParams(Config):
    """Rates that are drawn from; above 1 is faster."""

    rates: Annotated[tuple[Ratio, ...], Field(min_length=1)] = (0.25, 0.5, 2.0, 4.0)


class FrameDropParams(Config):
    """Share of the frames that turn grey."""

    ratio: Share = 0.5
    fill: Byte = GREY


class ColorParams(Config):
    """What happens to colours."""

    mode: Literal["hue", "grey"] = "hue"
    shift: Shares = (0.25, 0.5)
    """Part of the colour circle, for `hue`."""


class NoiseParams(Config):
    """Standard deviation as a share of the range of values."""

    sigma: Shares = (0.4, 0.8)


@dataclass(frozen=True)
class Operator:
    """One line of the table: either an order of frames or a paint of pixels."""

    params: type[Config]
    breaks: str
    """What a question must be about for the changed clip to contradict the answer."""
    source: str
    order: Callable[[int, Rng, Any], Order] | None = None
    paint: Callable[[Frames, Rng, Any], Frames] | None = None
    draws: bool = True
    """Whether it needs a seed."""

    @property
    def stages(self) -> frozenset[Stage]:
        """When it may act. An order may also be applied to the source's frames; painting before
        sampling would change frames that nobody sees.
        """
        if self.order is None:
            return frozenset({"after_sampling"})
        return frozenset({"before_sampling", "after_sampling"})

    @property
    def needs_other(self) -> bool:
        """Whether it shows a second clip."""
        return self.order is None and self.paint is None


_PAMI = "PaMi-VDPO (Ding et al., 2025), mmalign's reading"
_RRPO = "RRPO (Sarkar & Etemad, 2025)"

OPERATORS: dict[str, Operator] = {
    "crop": Operator(
        CropParams,
        "objects, counts, scene",
        _PAMI,
        paint=lambda frames, rng, p: transforms.crop_frames(
            frames, rng, area=p.area, aspect=p.aspect
        ),
    ),
    "shuffle": Operator(
        ShuffleParams,
        "order, causality",
        f"{_PAMI}; {_RRPO} as global shuffle",
        order=lambda num, rng, p: transforms.shuffle_order(
            num, rng, by_segments=p.granularity == "segments", min_distance=p.min_distance
        ),
    ),
    "reverse": Operator(
        NoParams,
        "direction, order",
        _PAMI,
        order=lambda num, _rng, _p: np.arange(num)[::-1],
        draws=False,
    ),
    "temporal_crop": Operator(
        WindowParams,
        "events outside the window",
        _PAMI,
        order=lambda num, rng, p: transforms.window_order(num, rng, ratio=p.ratio),
    ),
    "freeze": Operator(
        NoParams,
        "any motion",
        _PAMI,
        order=lambda num, rng, _p: transforms.freeze_order(num, rng),
    ),
    "speed": Operator(
        SpeedParams,
        "speed",
        _PAMI,
        order=lambda num, rng, p: transforms.speed_order(num, rng, rates=p.rates),
    ),
    "mask": Operator(
        MaskParams,
        "objects",
        f"{_PAMI}; {_RRPO}",
        paint=lambda frames, rng, p: transforms.mask_frames(
            frames, rng, area=p.area, aspect=p.aspect, fill=p.fill
        ),
    ),
    "frame_drop": Operator(
        FrameDropParams,
        "short events",
        _PAMI,
        paint=lambda frames, rng, p: transforms.grey_frames(
            frames, rng, ratio=p.ratio, fill=p.fill
        ),
    ),
    "hflip": Operator(
        NoParams,
        "left and right",
        _PAMI,
        paint=lambda frames, _rng, _p: transforms.mirror_frames(frames),
        draws=False,
    ),
    "color": Operator(
        ColorParams,
        "colours",
        _PAMI,
        paint=lambda frames, rng, p: transforms.recolor_frames(
            frames, rng, mode=p.mode, shift=p.shift
        ),
    ),
    "noise": Operator(
        NoiseParams,
        "fine detail",
        _PAMI,
        paint=lambda frames, rng, p: transforms.add_noise(frames, rng, sigma=p.sigma),
    ),
    "swap": Operator(NoParams, "everything", _PAMI, draws=False),
    "local_shuffle": Operator(
        LocalShuffleParams,
        "order of close events",
        _RRPO,
        order=lambda num, rng, p: transforms.local_shuffle_order(
            num, rng, num_windows=p.num_windows
        ),
    ),
}


def operation(
    name: str,
    seed: int | None,
    *,
    stage: Stage = "after_sampling",
    other: MediaRef | None = None,
    **params: Any,
) -> MediaOperation:
    """A checked operation with all its parameters written out.

    Args:
        name: A key of `OPERATORS`.
        seed: Fixes the draws; None only for an operator that draws nothing.
        stage: Whether it acts on the source's frames or on the sampled ones.
        other: The second clip, for `swap`.
        **params: The operator's own; the rest get their defaults.

    Raises:
        ConfigError: Unknown name or parameter, a value out of bounds, a missing seed or clip.
    """
    written = MediaOperation(name=name, params=params, seed=seed, stage=stage, other=other)
    checked = _params(written).model_dump(mode="json")
    return written.model_copy(update={"params": checked})


def frame_order(operation: MediaOperation, num_frames: int) -> Order:
    """Positions [F] of the frames that stand at each place after an operation before sampling.

    Raises:
        ConfigError: The operation is not one that orders frames.
    """
    params = _params(operation)
    order = OPERATORS[operation.name].order
    assert order is not None  # _params refuses the others at this stage
    return order(num_frames, _rng(operation), params)


def apply_operation(
    clip: VideoClip, operation: MediaOperation, other: VideoClip | None = None
) -> VideoClip:
    """The clip after one operation; the number of frames, their size and times stay.

    A pure function of its arguments: the same operation on the same clip gives the same bytes.

    Args:
        clip: Sampled frames; not changed.
        operation: What to do.
        other: The second clip of `swap`, sampled to the same shape.

    Raises:
        ConfigError: The operation does not fit its operator.
        ShapeError: The second clip has another shape.
    """
    params = _params(operation)
    operator = OPERATORS[operation.name]
    if operator.order is not None:
        order = operator.order(len(clip.frames), _rng(operation), params)
        return replace(clip, frames=clip.frames[order], indices=clip.indices[order])
    if operator.paint is not None:
        return replace(clip, frames=operator.paint(clip.frames, _rng(operation), params))
    assert other is not None  # the caller reads it, _params has seen that it is named
    if other.frames.shape != clip.frames.shape:
        raise ShapeError(
            f"{operation.name}: the second clip has frames {list(other.frames.shape)}, expected "
            f"{list(clip.frames.shape)}; sample it to the same number and size"
        )
    return replace(clip, frames=other.frames, indices=other.indices, source_hash=other.source_hash)


def _params(operation: MediaOperation) -> Config:
    operator = OPERATORS.get(operation.name)
    if operator is None:
        near = get_close_matches(operation.name, OPERATORS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(OPERATORS)}"
        raise ConfigError(f"operation {operation.name!r}: no such operator; {hint}")
    where = f"operation {operation.name!r}"
    if operation.stage not in operator.stages:
        raise ConfigError(f"{where}: acts on sampled frames only; leave stage at after_sampling")
    if operator.draws and operation.seed is None:
        raise ConfigError(f"{where}: found no seed, expected an integer; it fixes the draws")
    if operation.seed is not None and operation.seed < 0:
        raise ConfigError(f"{where}: found seed {operation.seed}, expected one >= 0")
    if operator.needs_other != (operation.other is not None):
        need = "needs the second clip in `other`" if operator.needs_other else "takes no `other`"
        raise ConfigError(f"{where}: {need}")
    return validate(operator.params, operation.params, where)


def _rng(operation: MediaOperation) -> Rng:
    """Draws that differ between operators of one seed, so that they do not move together."""
    name = hashlib.blake2b(operation.name.encode(), digest_size=8).digest()
    return np.random.default_rng([operation.seed or 0, int.from_bytes(name, "big")])
