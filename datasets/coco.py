"""Pictures with boxes in COCO's format: COCO itself, and every set that is published like it.

Left out: masks, keypoints, captions.

Source: COCO (Lin et al., 2014), its format of detection; queries as Vision-R1 (Zhan et al., 2025)
evaluates: all categories at once, or one query for each category that the picture shows. The words
of the prompts are mmalign's.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from mmalign.api import (
    CoordSpace,
    ImageSizes,
    LabelledBox,
    MediaRef,
    RecordError,
    Sample,
    coord_sizes,
    detection_metadata,
    detection_row,
    user,
    written_boxes,
)
from mmalign.datasets.benchmark_files import load_mapping

__all__ = ["PROMPTS", "InputLimits", "Query", "read"]

Query = Literal["all", "each"]
PROMPTS: Mapping[Query, str] = {
    "all": "Locate every object of these categories: {names}.",
    "each": "Locate every {names}.",
}
_FORM = (
    ' Answer with a JSON list that has one object for each: {{"bbox_2d": [x1, y1, x2, y2], '
    '"label": "..."}}, in {space}.'
)
_SLACK = 1.0
"""Pixels that a published box may lie outside its picture; it is cut to the picture."""
_LARGE, _THOUSAND, _FEWEST = 1200, 1000, 20
"""From how many boxes of large pictures on it is told that all lie within 1000."""


class InputLimits(NamedTuple):
    """How a processor of Qwen's kind resizes pictures: sides are multiples, the area is bounded."""

    multiple: int = 28
    min_pixels: int = 3136
    max_pixels: int = 401408
    """Both as Vision-R1's script has them; the policy's processor must have the same."""


class _Query(NamedTuple):
    """What is asked about one picture."""

    names: tuple[str, ...]
    gold: tuple[LabelledBox, ...]
    crowd: tuple[LabelledBox, ...]


def read(
    annotations: str | Path,
    images: str | Path,
    *,
    query: Query = "all",
    coord_space: CoordSpace = "input_pixels",
    limits: Mapping[str, int] | None = None,
    min_instances: int = 0,
    max_instances: int | None = None,
    num_samples: int | None = None,
    subset: str | None = None,
) -> Iterator[Sample]:
    """Detection rows, picture by picture in the order of their ids.

    Args:
        annotations: `instances_*.json`.
        images: Folder of the pictures.
        query: `all`: one row a picture, about all categories; `each`: one row for each category
            that the picture shows. Numbers of the two cannot be compared: with `each`, a category
            that is not there is never asked for.
        coord_space: In what boxes are asked for; see `COORD_SPACES`.
        limits: Fields of `InputLimits`, for input_pixels.
        min_instances: Rows with fewer boxes are not read; Vision-R1 trains on 1 to 30.
        max_instances: Rows with more boxes are not read.
        num_samples: Stop after so many.
        subset: Name under which the rows are scored by themselves.

    Yields:
        Samples as `detection_row` reads them. Crowds stand in the metadata as `crowd_boxes`, boxes
        without an area are left out and counted as `num_without_area`.

    Raises:
        ConfigError: There is no such file.
        RecordError: A box lies outside its picture, or annotations do not fit together; named by
            file and id.
    """
    path = Path(annotations)
    content = load_mapping(path)
    names = {item["id"]: str(item["name"]) for item in _list(path, content, "categories")}
    pictures = {item["id"]: item for item in _list(path, content, "images")}
    boxes = _boxes_of(path, _list(path, content, "annotations"), pictures, names)
    _refuse_thousandths(path, boxes, pictures)
    num_read = 0
    for number in sorted(pictures):
        picture = pictures[number]
        sizes = _sizes(picture, coord_space, InputLimits(**(limits or {})))
        own = boxes[number]
        extra: dict[str, Any] = {"subset": subset} if subset else {}
        if own.num_without_area:
            extra["num_without_area"] = own.num_without_area
        for place, asked in enumerate(_queries(own, query, tuple(names.values()))):
            few = len(asked.gold) < min_instances
            if few or (max_instances is not None and len(asked.gold) > max_instances):
                continue
            if num_read == num_samples:
                return
            num_read += 1
            media = MediaRef(kind="image", uri=str(Path(images) / picture["file_name"]))
            key = f"{subset}/{number}" if subset else str(number)
            found = _sample(key, asked, query, media, sizes, coord_space, extra)
            if query == "each":
                found = found.model_copy(update={"id": f"{key}/{place}"})
            detection_row(found)
            yield found


@dataclass
class _Boxes:
    """Of one picture, in the order of the file."""

    gold: list[LabelledBox] = field(default_factory=list)
    crowd: list[LabelledBox] = field(default_factory=list)
    num_without_area: int = 0


def _boxes_of(
    path: Path,
    annotations: Sequence[Any],
    pictures: Mapping[Any, Any],
    names: Mapping[Any, str],
) -> Mapping[Any, _Boxes]:
    found: dict[Any, _Boxes] = defaultdict(_Boxes)
    for item in annotations:
        where = f"{path}: annotation {item.get('id')}"
        picture, label = pictures.get(item.get("image_id")), names.get(item.get("category_id"))
        if picture is None or label is None:
            raise RecordError(
                f"{where}: image_id {item.get('image_id')} or category_id "
                f"{item.get('category_id')} is not in the file"
            )
        box = _box(where, item.get("bbox"), label, picture)
        boxes = found[item["image_id"]]
        if box is None:
            boxes.num_without_area += 1
        else:
            (boxes.crowd if item.get("iscrowd") else boxes.gold).append(box)
    return found


def _box(where: str, bbox: Any, label: str, picture: Mapping[str, Any]) -> LabelledBox | None:
    """Corners within the picture; None for a box without an area, of which COCO has some."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise RecordError(f"{where}: bbox is {bbox!r}, expected [x, y, width, height]")
    x, y, width, height = map(float, bbox)
    right, below = picture["width"], picture["height"]
    if min(x, y) < -_SLACK or x + width > right + _SLACK or y + height > below + _SLACK:
        raise RecordError(
            f"{where}: bbox {bbox} lies outside the picture of {right} x {below}; expected x, y, "
            f"width and height in pixels; if the file holds corners, convert them"
        )
    box = LabelledBox(
        label, max(x, 0.0), max(y, 0.0), min(x + width, right), min(y + height, below)
    )
    return box if box.x1 < box.x2 and box.y1 < box.y2 else None


def _refuse_thousandths(
    path: Path, boxes: Mapping[Any, _Boxes], pictures: Mapping[Any, Any]
) -> None:
    """A file of large pictures in which nothing lies beyond 1000 was hardly drawn in pixels."""
    wide = [b for i, of in boxes.items() if pictures[i]["width"] > _LARGE for b in of.gold]
    if len(wide) >= _FEWEST and max(box.x2 for box in wide) <= _THOUSAND:
        raise RecordError(
            f"{path}: all {len(wide)} boxes of pictures wider than {_LARGE} end within "
            f"{_THOUSAND}; they look like thousandths of the width. Convert them to pixels"
        )


def _queries(boxes: _Boxes, query: Query, names: Sequence[str]) -> Iterator[_Query]:
    if query == "all":
        yield _Query(tuple(names), tuple(boxes.gold), tuple(boxes.crowd))
        return
    for name in names:
        gold, crowd = (
            tuple(box for box in part if box.label == name) for part in (boxes.gold, boxes.crowd)
        )
        if gold:
            yield _Query((name,), gold, crowd)


def _sizes(picture: Mapping[str, Any], space: CoordSpace, limits: InputLimits) -> ImageSizes:
    width, height = int(picture["width"]), int(picture["height"])
    down, across = smart_resize(
        height,
        width,
        limits.multiple,
        min_pixels=limits.min_pixels,
        max_pixels=limits.max_pixels,
    )
    return coord_sizes(width, height, space, (across, down))


def _sample(
    key: str,
    asked: _Query,
    query: Query,
    media: MediaRef,
    sizes: ImageSizes,
    space: CoordSpace,
    extra: Mapping[str, Any],
) -> Sample:
    spaces = {
        "input_pixels": f"pixels of the picture at {sizes.input_width} x {sizes.input_height}",
        "image_pixels": f"pixels of the picture of {sizes.width} x {sizes.height}",
        "thousandths": "thousandths of the picture's width and height",
    }
    text = (PROMPTS[query] + _FORM).format(names=", ".join(asked.names), space=spaces[space])
    crowd = [[box.label, *box.corners] for box in asked.crowd]
    return Sample(
        id=key,
        messages=(user(text, media),),
        answer=written_boxes(asked.gold, sizes),
        boxes=tuple(box.corners for box in asked.gold),
        metadata={
            "dataset": "coco",
            "question_type": "detection" if query == "all" else "grounding",
            "prompt_template": f"coco/{query}-1",
            "image_id": key,
            **detection_metadata([box.label for box in asked.gold], sizes, space),
            **({"asked": asked.names[0]} if query == "each" else {}),
            **({"crowd_boxes": crowd} if crowd else {}),
            **extra,
        },
    )


def _list(path: Path, content: Mapping[str, Any], name: str) -> list[Any]:
    found = content.get(name)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise RecordError(f"{path}: has no list {name!r} of objects; expected COCO's format")
    return found
