"""Boxes that a model writes as JSON: reading them, comparing them, matching them one to one."""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mmalign.errors import RecordError, ShapeError

__all__ = [
    "BoxMatcher",
    "Decoded",
    "LabelledBox",
    "Matches",
    "Overlaps",
    "box_distances",
    "box_overlaps",
    "decode_json",
    "match_boxes",
    "parse_boxes",
    "require_gold_boxes",
    "scale_box",
]

BoxMatcher = Literal["hungarian", "greedy"]
"""`hungarian`: the least total cost; `greedy`: the best free pair again and again."""

LARGEST_COORDINATE = 1e6
"""Pixels; a box beyond it is no box, and its area would overflow."""

_COMPLETE_OBJECT = re.compile(
    r'\{\s*"bbox_2d"\s*:\s*\[\s*(-?[0-9]+)\s*,\s*(-?[0-9]+)\s*,\s*(-?[0-9]+)\s*,\s*(-?[0-9]+)\s*\]'
    r'\s*,\s*"label"\s*:\s*"([^"]*)"\s*\}'
)


class LabelledBox(NamedTuple):
    """A box with what stands in it."""

    label: str
    x1: float
    """Left, in pixels from the left edge; x1 < x2."""
    y1: float
    """Top, in pixels from the upper edge; y1 < y2."""
    x2: float
    y2: float

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """The four numbers alone."""
        return self[1:]


class Decoded(NamedTuple):
    """What JSON text holds, if it is JSON."""

    valid: bool
    value: Any = None


class Overlaps(NamedTuple):
    """How each of M boxes overlaps each of N others."""

    ious: NDArray[np.float64]
    """[M, N], in [0, 1]: intersection over union."""
    gious: NDArray[np.float64]
    """[M, N], in (-1, 1]: generalised, negative for boxes that are far apart; never above IoU."""


class Matches(NamedTuple):
    """Pairs of one row and one column each, ordered by rows."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]


def decode_json(completion: str) -> Decoded:
    """The JSON in a completion, with or without a code fence around it.

    A first line that begins a fence of JSON is dropped, and what follows the fence that ends it.
    """
    text = completion.strip()
    if text.startswith("```json"):
        text = text.partition("\n")[2].partition("```")[0]
    try:
        return Decoded(valid=True, value=json.loads(text))
    except (ValueError, RecursionError):  # bad model output is data; it may nest without end
        return Decoded(valid=False)


def parse_boxes(
    completion: str, *, largest_recovered: int | None = None
) -> tuple[LabelledBox, ...]:
    """The boxes that a completion names, in its order.

    Objects with a `bbox_2d` of four numbers count; each number is cut to a whole one, and boxes
    without an area are left out. Where no box is found so, every complete object with `bbox_2d`
    and `label` is picked out of the text: the boxes of a list that was cut off survive.

    Args:
        completion: Whole model output, boxes in pixels of the model's input.
        largest_recovered: Boxes picked out of the text must lie in 0 to this; None for no bound.

    Returns:
        The boxes, none for an unreadable completion; a label that is no text is empty.
    """
    decoded = decode_json(completion)
    items = decoded.value if isinstance(decoded.value, list) else []
    boxes = [
        _box(item["bbox_2d"], item.get("label"))
        for item in items
        if isinstance(item, dict) and isinstance(item.get("bbox_2d"), list)
    ]
    if not any(boxes):
        boxes = [
            _box(found.groups()[:4], found.group(5))
            for found in _COMPLETE_OBJECT.finditer(completion)
        ]
        if largest_recovered is not None:
            boxes = [
                box
                for box in boxes
                if box and min(box.corners) >= 0 and max(box.corners) <= largest_recovered
            ]
    return tuple(box for box in boxes if box is not None)


def scale_box(box: LabelledBox, *, x_factor: float, y_factor: float) -> LabelledBox:
    """The box in another image size."""
    return LabelledBox(
        box.label, box.x1 * x_factor, box.y1 * y_factor, box.x2 * x_factor, box.y2 * y_factor
    )


def box_overlaps(first: Sequence[LabelledBox], second: Sequence[LabelledBox]) -> Overlaps:
    """Overlaps of each box of the first list with each of the second.

        IoU  = intersection / union
        GIoU = IoU - (hull - union) / hull    hull: the smallest box around both

    Source: GIoU (Rezatofighi et al., 2019).
    """
    a, b = _corners(first)[:, None], _corners(second)[None]
    starts, ends = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    intersections = (ends - starts).clip(min=0).prod(-1)
    areas_a, areas_b = ((c[..., 2:] - c[..., :2]).prod(-1) for c in (a, b))
    unions = areas_a + areas_b - intersections
    hulls = (np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])).prod(-1)
    ious = intersections / unions
    return Overlaps(ious=ious, gious=ious - (hulls - unions) / hulls)


def box_distances(
    first: Sequence[LabelledBox], second: Sequence[LabelledBox]
) -> NDArray[np.float64]:
    """[M, N], pixels: the four absolute differences of corners, added up."""
    distances: NDArray[np.float64] = np.abs(_corners(first)[:, None] - _corners(second)[None]).sum(
        -1
    )
    return distances


def match_boxes(costs: NDArray[np.float64], *, matcher: BoxMatcher = "hungarian") -> Matches:
    """Match as many rows to columns as there can be, one to one.

    Args:
        costs: [M, N], finite.
        matcher: `hungarian` finds the least total; `greedy` takes the cheapest free pair, at a
            tie that of the lowest row, then of the lowest column.

    Returns:
        min(M, N) pairs.

    Raises:
        ShapeError: costs is no matrix, or an entry is NaN or infinite.
    """
    if costs.ndim != 2 or not np.isfinite(costs).all():
        raise ShapeError(f"costs {list(costs.shape)}: expected a finite matrix [M, N]")
    if matcher == "hungarian":
        rows, cols = linear_sum_assignment(costs)
        pairs = list(zip(rows.tolist(), cols.tolist(), strict=True))
    else:
        pairs = []
        for flat in np.argsort(costs, axis=None, kind="stable").tolist():
            row, col = divmod(flat, costs.shape[1])
            if all(row != r and col != c for r, c in pairs):
                pairs.append((row, col))
    pairs.sort()
    return Matches(rows=tuple(row for row, _ in pairs), cols=tuple(col for _, col in pairs))


def require_gold_boxes(boxes: Sequence[LabelledBox], *, width: int, height: int) -> None:
    """Refuse annotations that cannot be boxes in pixels of the image.

    Raises:
        RecordError: A box has no area, lies partly outside the image, or all coordinates are
            given as shares of the image.
    """
    if boxes and max(width, height) > 1 and max(max(box.corners) for box in boxes) <= 1:
        raise RecordError(
            f"all gold boxes lie within 0 to 1 in an image of {width} x {height}: they look like "
            f"shares of its size; give pixels"
        )
    for number, box in enumerate(boxes):
        if not (box.x1 < box.x2 and box.y1 < box.y2):
            raise RecordError(
                f"gold box {number} ({box.label!r}) is {list(box.corners)}, expected x1 < x2 and "
                f"y1 < y2; if it is given as x, y, width, height, give corners"
            )
        if not (box.x1 >= 0 and box.y1 >= 0 and box.x2 <= width and box.y2 <= height):
            raise RecordError(
                f"gold box {number} ({box.label!r}) is {list(box.corners)}, outside the image of "
                f"{width} x {height}; give pixels of the original image"
            )


def _box(numbers: Sequence[Any], label: Any) -> LabelledBox | None:
    """None for what is no box."""
    if len(numbers) != 4:
        return None
    try:
        x1, y1, x2, y2 = (float(int(number)) for number in numbers)
    except (TypeError, ValueError, OverflowError):
        return None
    if not (x1 < x2 and y1 < y2) or max(map(abs, (x1, y1, x2, y2))) > LARGEST_COORDINATE:
        return None
    return LabelledBox(label if isinstance(label, str) else "", x1, y1, x2, y2)


def _corners(boxes: Sequence[LabelledBox]) -> NDArray[np.float64]:
    """[M, 4]."""
    return np.array([box.corners for box in boxes], dtype=np.float64).reshape(-1, 4)
