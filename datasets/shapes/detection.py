"""Detection rows of the shapes world: a picture, and the JSON that lists the box of every shape."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmalign.api import (
    ImageSizes,
    LabelledBox,
    MediaRef,
    Sample,
    detection_metadata,
    user,
    written_boxes,
)
from mmalign.datasets.shapes.clips import require_known, stored_clip
from mmalign.datasets.shapes.pictures import PICTURE_SIZE, Picture, draw_picture, save_picture
from mmalign.datasets.shapes.reader import Split
from mmalign.datasets.shapes.world import SIZE

__all__ = ["PICTURES", "PROMPT", "fingerprint", "pictures_of", "read_detection"]

VERSION = "pictures-v1"
"""Names the cache folder; raise it when a picture changes."""
PROMPT = (
    "locate every shape . answer in json with label and bbox_2d in pixels of the 64 x 64 input ."
)


class PicturePlan(NamedTuple):
    """How the pictures of a split are drawn.

    In most pictures of the base model's split there is one shape: where it is can be learnt from
    these before it is learnt which of several is meant.
    """

    seed: int
    num_pictures: int
    num_shapes_odds: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2, 0.2)


PICTURES: dict[Split, PicturePlan] = {
    "sft": PicturePlan(11, 8_000, num_shapes_odds=(0.6, 0.1, 0.1, 0.1, 0.1)),
    "train": PicturePlan(12, 2_000),
    "validation": PicturePlan(13, 150),
    "test": PicturePlan(14, 300),
}


def read_detection(
    split: Split, *, root: str | Path | None = None, num_samples: int | None = None
) -> Iterator[Sample]:
    """One row a picture: find every shape.

    Pictures are 128 x 128, the model's input is 64 x 64. Gold boxes stand in pixels of the
    picture; the prompt asks for pixels of the input, and the answer is written in them.

    Args:
        split: As for `read`; the pictures are others than its clips.
        root: Folder of the pictures; by default one below $MMALIGN_CACHE_DIR or ~/.cache/mmalign.
        num_samples: Stop after so many.

    Yields:
        Samples with `boxes`, and in their metadata the `labels` of these, `width` and `height` of
        the picture, `coord_space`, `input_width` and `input_height`. Their order has no meaning.

    Raises:
        ConfigError: There is no such split.
    """
    require_known("shapes", "split", split, PICTURES)
    for picture in pictures_of(split)[:num_samples]:
        name = f"{VERSION}/{split}/{picture.id}.png"
        media = stored_clip("shapes", name, partial(save_picture, picture), root=root, kind="image")
        yield _sample(split, picture, media)


@cache
def pictures_of(split: Split) -> tuple[Picture, ...]:
    """All pictures of a split; none is in two splits."""
    plan = PICTURES[split]
    return tuple(
        draw_picture(
            np.random.default_rng((plan.seed, number)), num_shapes_odds=plan.num_shapes_odds
        )
        for number in range(plan.num_pictures)
    )


def fingerprint(split: Split) -> str:
    """Hash of a split's pictures: it is frozen, results of years compare."""
    lines = [json.dumps(asdict(picture), sort_keys=True) for picture in pictures_of(split)]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _sample(split: Split, picture: Picture, media: MediaRef) -> Sample:
    labels = [shape.name for shape in picture.shapes]
    boxes = tuple(shape.picture_box for shape in picture.shapes)
    sizes = ImageSizes(PICTURE_SIZE, PICTURE_SIZE, SIZE, SIZE)
    gold = [LabelledBox(label, *box) for label, box in zip(labels, boxes, strict=True)]
    return Sample(
        id=f"shapes-{split}-{picture.id}-detection",
        messages=(user(PROMPT, media),),
        answer=written_boxes(gold, sizes, label_first=True),
        boxes=boxes,
        metadata={
            "dataset": "shapes",
            "split": split,
            "question_type": "detection",
            **detection_metadata(labels, sizes, "input_pixels"),
        },
    )
