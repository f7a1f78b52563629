"""Detection: mean average precision of the boxes that a model lists.

A language model gives no scores. Every box gets the same one, so that average precision depends on
the order of images and of the boxes in an answer: both are kept as they are given.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mmalign.errors import RecordError
from mmalign.evaluation.metrics import Scores, values_of
from mmalign.evaluation.parsing import check_profile
from mmalign.evaluation.predictions import Answered, Prediction, match
from mmalign.evaluation.table import Table
from mmalign.records import Sample
from mmalign.rewards.boxes import LabelledBox, parse_boxes, scale_box
from mmalign.rewards.detection import detection_row

__all__ = ["BOX_SCORE", "MAX_BOXES", "THRESHOLDS", "detection"]

BOX_SCORE = 0.99
"""Of every box."""
MAX_BOXES = 100
"""Boxes of an image and category that count, the first ones written."""
THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU from which a box is a hit."""
_RECALLS = np.linspace(0.0, 1.0, 101)
_AT_75 = 5

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Category = tuple[str, str]
"""Subset of the data and name: two data sets may mean different things by one name."""


class _Box(NamedTuple):
    """A box of an image, [x, y, width, height] in pixels of the picture."""

    image: int
    category: int
    xywh: tuple[float, float, float, float]
    is_crowd: bool = False


@dataclass
class _Collected:
    """All boxes of an evaluation."""

    gold: list[_Box]
    written: list[_Box]
    num_unknown: int = 0
    """Boxes whose label is none of the gold ones."""
    num_unread: int = 0
    """Answers that are no list of boxes at all."""


def detection(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """COCO's mAP over IoU 0.50 to 0.95, AP50, AP75 and AR100, in percent.

    Items are detection rows. Rows with the same `image_id` in their metadata are queries about one
    image: their boxes are pooled, and each row's gold boxes count once. Where a row asks for one
    category (`asked`), all boxes of its answer are of that category; otherwise the label says it,
    without regard to case, and boxes with a label that no gold box has are left out and counted.
    `crowd_boxes`, lists of a label and four corners, are neither hits nor misses. An answer that
    was cut off keeps its complete boxes. Rows of several `subset`s are scored apart, and the value
    is the unweighted mean over these. Images are what intervals draw.

    Source: COCO's evaluation of boxes (Lin et al., 2014), by pycocotools; the score of 0.99 and
    reading by Vision-R1's code (Zhan et al., 2025); `asked` is mmalign's reading.
    """
    check_profile(profile)  # there is one way to compare boxes
    answered = match(items, predictions, allow_missing=allow_missing)
    named = dict.fromkeys(_image(item) for item in items)
    images = {image: number for number, image in enumerate(named, start=1)}
    names = dict.fromkeys(_category(item, label) for item in items for label in _labels(item))
    categories = {name: number for number, name in enumerate(names, start=1)}
    if not categories:
        raise RecordError("no row has a gold box; mean average precision needs some")
    found = _collect(answered, images, categories)
    by_subset: dict[str, list[Matched]] = {}
    matches = _match(found, len(images), len(categories))
    for (subset, _), matched in zip(categories, matches, strict=True):
        by_subset.setdefault(subset, []).append(matched)
    subsets = {_image(item): _subset(item) for item in items}
    table = Table(
        units=tuple(images),
        strata=tuple(subsets[image] for image in images),
        columns={},
        means=(),
        further=lambda weights: _over_subsets(by_subset, weights),
    )
    values = values_of(table)
    return Scores(
        main="mAP",
        metrics=values.metrics,
        subsets=values.subsets,
        counts={
            "items": len(items),
            "units": len(images),
            "categories": len(categories),
            "gold_boxes": len(found.gold),
            "boxes": len(found.written),
            "unknown_labels": found.num_unknown,
        },
        unparsed=found.num_unread,
        missing=tuple(answer.sample.id for answer in answered if answer.text is None),
        table=table,
    )


@dataclass(frozen=True)
class Matched:
    """What became of the boxes of one category: D written ones in the order of images."""

    image_of: npt.NDArray[np.int64]
    """[D]: place of the image, from 0."""
    hits: Bools
    """[T, D]: matched with a gold box, at each of THRESHOLDS."""
    misses: Bools
    """[T, D]: matched with nothing; who is matched with a crowd is neither."""
    num_gold: Floats
    """[U]: gold boxes of each image, crowds left out."""


def _over_subsets(
    by_subset: Mapping[str, Sequence[Matched]], weights: Floats
) -> Mapping[str, Floats]:
    """The mean over subsets, and each subset by itself where there are several."""
    found = {name: average_precisions(matched, weights) for name, matched in by_subset.items()}
    metrics = next(iter(found.values()))
    means = {metric: np.mean([f[metric] for f in found.values()], axis=0) for metric in metrics}
    if len(found) == 1:
        return means
    return means | {f"{name}/{m}": values for name, f in found.items() for m, values in f.items()}


def average_precisions(matched: Sequence[Matched], weights: Floats) -> Mapping[str, Floats]:
    """mAP, AP50, AP75, AR100 in [0, 1], [R] each, where images count as often as they weigh.

    Args:
        matched: One for each category.
        weights: [R, U]; an image of weight 2 counts twice at its place.
    """
    precision = np.full((len(THRESHOLDS), len(matched), len(weights)), np.nan)
    recall = precision.copy()
    for place, category in enumerate(matched):
        num_gold = weights @ category.num_gold
        has_gold = num_gold > 0
        boxes = weights[has_gold][:, category.image_of]
        hits, misses = (
            np.cumsum(boxes * kind[:, None], axis=2) for kind in (category.hits, category.misses)
        )
        recalls = hits / num_gold[has_gold, None]
        precision[:, place, has_gold] = _area(hits / (hits + misses + _EPSILON), recalls)
        recall[:, place, has_gold] = recalls[..., -1] if category.image_of.size else 0.0
    by_threshold = _over_known(precision)
    return {
        "mAP": by_threshold.mean(axis=0),
        "AP50": by_threshold[0],
        "AP75": by_threshold[_AT_75],
        "AR100": _over_known(recall).mean(axis=0),
    }


_EPSILON = float(np.spacing(1))


def _over_known(values: Floats) -> Floats:
    """[T, R]: mean over the categories that have gold boxes; 0 where none has."""
    known = ~np.isnan(values)
    mean: Floats = np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return mean


def _area(precisions: Floats, recalls: Floats) -> Floats:
    """[T, R]: mean over 101 recalls of the best precision at that recall or a larger one."""
    best = np.maximum.accumulate(precisions[..., ::-1], axis=2)[..., ::-1]
    reached = np.searchsorted(_RECALLS, recalls.ravel(), side="right").reshape(recalls.shape)
    area: Floats = (best * np.diff(reached, axis=2, prepend=0)).sum(axis=2) / len(_RECALLS)
    return area


def _collect(
    answered: Sequence[Answered], images: Mapping[str, int], categories: Mapping[Category, int]
) -> _Collected:
    found = _Collected([], [])
    for sample, text in answered:
        row = detection_row(sample)
        image = images[_image(sample)]
        for boxes, is_crowd in ((row.gold, False), (_crowd(sample), True)):
            for box in boxes:
                category = categories[_category(sample, box.label)]
                found.gold.append(_Box(image, category, _xywh(box), is_crowd))
        if text is None:
            continue
        written = parse_boxes(text)
        found.num_unread += not written and text.strip() != "[]"
        x_factor = row.sizes.width / row.sizes.input_width
        y_factor = row.sizes.height / row.sizes.input_height
        asked = sample.metadata.get("asked")
        for box in written:
            known = categories.get(_category(sample, box.label if asked is None else str(asked)))
            if known is None:
                found.num_unknown += 1
                continue
            scaled = scale_box(box, x_factor=x_factor, y_factor=y_factor)
            found.written.append(_Box(image, known, _xywh(scaled)))
    return found


def _match(found: _Collected, num_images: int, num_categories: int) -> list[Matched]:
    """COCO's own matching, image by image."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    gold = COCO()
    gold.dataset = {
        "images": [{"id": number} for number in range(1, num_images + 1)],
        "categories": [{"id": number} for number in range(1, num_categories + 1)],
        "annotations": [_annotation(place, box) for place, box in enumerate(found.gold, start=1)],
    }
    with redirect_stdout(io.StringIO()):  # it prints how long it takes
        gold.createIndex()
        written = COCO()
        written.dataset = gold.dataset | {
            "annotations": [
                _annotation(place, box) | {"score": BOX_SCORE}
                for place, box in enumerate(found.written, start=1)
            ]
        }
        written.createIndex()
        evaluation = COCOeval(gold, written, "bbox")
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [MAX_BOXES]
        evaluation.evaluate()
    by_category = np.array(evaluation.evalImgs, dtype=object).reshape(num_categories, num_images)
    return [_matched(list(images)) for images in by_category]


def _matched(images: Sequence[Mapping[str, Any] | None]) -> Matched:
    """What COCO says of every image of a category; None where there is no box."""
    num_gold = np.zeros(len(images))
    image_of: list[int] = []
    matches = [np.zeros((len(THRESHOLDS), 0))]
    ignored = [np.zeros((len(THRESHOLDS), 0))]
    for place, image in enumerate(images):
        if image is None:
            continue
        num_gold[place] = np.count_nonzero(np.asarray(image["gtIgnore"]) == 0)
        image_of += [place] * len(image["dtIds"])
        matches.append(image["dtMatches"])
        ignored.append(image["dtIgnore"])
    is_matched, is_ignored = (np.concatenate(parts, axis=1) != 0 for parts in (matches, ignored))
    return Matched(
        image_of=np.array(image_of, dtype=np.int64),
        hits=is_matched & ~is_ignored,
        misses=~is_matched & ~is_ignored,
        num_gold=num_gold,
    )


def _annotation(number: int, box: _Box) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": box.image,
        "category_id": box.category,
        "bbox": list(box.xywh),
        "area": box.xywh[2] * box.xywh[3],
        "iscrowd": int(box.is_crowd),
    }


def _xywh(box: LabelledBox) -> tuple[float, float, float, float]:
    return (box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1)


def _crowd(sample: Sample) -> list[LabelledBox]:
    return [
        LabelledBox(str(label), *map(float, corners))
        for label, *corners in sample.metadata.get("crowd_boxes", ())
    ]


def _labels(sample: Sample) -> list[str]:
    """Of all gold boxes of a sample, crowds included."""
    return [box.label for box in (*detection_row(sample).gold, *_crowd(sample))]


def _category(sample: Sample, label: str) -> Category:
    return (_subset(sample), label.strip().lower())


def _subset(sample: Sample) -> str:
    return str(sample.metadata.get("subset", "all"))


def _image(sample: Sample) -> str:
    return str(sample.metadata.get("image_id", sample.id))
