"""What a sample says about its boxes, and Vision-R1's reward of a rollout that lists them."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from mmalign.errors import RecordError
from mmalign.records import Sample
from mmalign.rewards.boxes import BoxMatcher, LabelledBox, require_gold_boxes, scale_box
from mmalign.rewards.contract import Episode, reward
from mmalign.rewards.reward import Reward
from mmalign.rewards.vision_r1 import (
    BoxReward,
    ImageSizes,
    vision_r1_release_reward,
    vision_r1_reward,
    vision_r1_stage,
)

__all__ = [
    "COORD_SPACES",
    "CoordSpace",
    "DetectionRow",
    "Profile",
    "RewardPart",
    "box_reward",
    "coord_sizes",
    "detection_metadata",
    "detection_row",
    "vision_r1",
    "written_boxes",
]

CoordSpace = Literal["input_pixels", "image_pixels", "thousandths"]
COORD_SPACES: Mapping[CoordSpace, str] = MappingProxyType(
    {
        "input_pixels": "pixels of the picture as resized for the model (Qwen2.5-VL)",
        "image_pixels": "pixels of the picture file",
        "thousandths": "0 to 1000 along either side (Qwen3-VL)",
    }
)
"""In what the model is asked to write boxes. Never guessed: the same four numbers are good boxes
in all of them."""
Profile = Literal["paper", "release", "release_adaptive"]
"""release: the rules of the released code as its script runs it; release_adaptive: with those
that tighten."""
RewardPart = Literal["format", "recall", "precision"]
ALL_PARTS: tuple[RewardPart, ...] = ("format", "recall", "precision")
_THOUSAND = 1000


class DetectionRow(NamedTuple):
    """The boxes of a sample and the sizes that turn what is written into pixels of the picture."""

    gold: tuple[LabelledBox, ...]
    """In pixels of the picture file."""
    sizes: ImageSizes
    """`input_width` and `input_height`: where the written coordinates end."""


def detection_row(sample: Sample) -> DetectionRow:
    """Read `boxes`, and from the metadata `labels`, `width`, `height` and `coord_space`.

    Args:
        sample: With `coord_space` input_pixels its metadata holds `input_width` and
            `input_height` too; `num_instances`, where it is there, is the number of boxes.

    Raises:
        RecordError: Something of it is missing, or contradicts the rest.
    """
    where, known = f'sample "{sample.id}"', sample.metadata
    if sample.boxes is None:
        raise RecordError(f"{where}: has no boxes; a detection row gives them, an empty list too")
    labels = known.get("labels")
    if not isinstance(labels, list | tuple) or len(labels) != len(sample.boxes):
        raise RecordError(
            f"{where}: has {len(sample.boxes)} boxes and labels {labels!r}; give metadata "
            f"`labels`, one name for each box"
        )
    if known.get("num_instances", len(labels)) != len(labels):
        raise RecordError(
            f"{where}: num_instances is {known['num_instances']}, it has {len(labels)} boxes"
        )
    sizes = _sizes(known, where)
    gold = tuple(
        LabelledBox(str(label), *box) for label, box in zip(labels, sample.boxes, strict=True)
    )
    try:
        require_gold_boxes(gold, width=sizes.width, height=sizes.height)
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from error
    return DetectionRow(gold, sizes)


def detection_metadata(
    labels: Sequence[str], sizes: ImageSizes, coord_space: CoordSpace
) -> dict[str, Any]:
    """What `detection_row` reads of a sample besides its boxes, for those who make samples."""
    known = {
        "labels": list(labels),
        "width": sizes.width,
        "height": sizes.height,
        "coord_space": coord_space,
    }
    if coord_space != "input_pixels":
        return known
    return known | {"input_width": sizes.input_width, "input_height": sizes.input_height}


def coord_sizes(
    width: int, height: int, coord_space: CoordSpace, input_size: tuple[int, int] | None = None
) -> ImageSizes:
    """Both sizes of a picture: its own, and where written coordinates end.

    Args:
        width: Pixels of the picture file.
        height: The same.
        coord_space: A name of `COORD_SPACES`.
        input_size: Width and height as resized for the model, for input_pixels.

    Raises:
        RecordError: input_pixels without input_size.
    """
    if coord_space == "thousandths":
        return ImageSizes(width, height, _THOUSAND, _THOUSAND)
    if coord_space == "image_pixels":
        return ImageSizes(width, height, width, height)
    if input_size is None:
        raise RecordError("coord_space input_pixels needs the size of the model's input")
    return ImageSizes(width, height, *input_size)


def written_boxes(
    gold: Sequence[LabelledBox], sizes: ImageSizes, *, label_first: bool = False
) -> str:
    """The right answer: JSON of all boxes, to whole numbers of what is asked for.

    Args:
        gold: In pixels of the picture file, in the order in which they are written.
        sizes: Of picture and coordinates.
        label_first: Whether the label stands before its box; Qwen2.5-VL writes it behind.
    """
    x_factor, y_factor = sizes.input_width / sizes.width, sizes.input_height / sizes.height
    scaled = [scale_box(box, x_factor=x_factor, y_factor=y_factor) for box in gold]
    items: list[dict[str, Any]] = []
    for box in scaled:
        item = {"bbox_2d": [round(edge) for edge in box.corners], "label": box.label}
        items.append(dict(reversed(item.items())) if label_first else item)
    return json.dumps(items, ensure_ascii=False)


@reward(low=0.0, high=3.0)
def vision_r1(
    episode: Episode,
    *,
    profile: Profile = "paper",
    switch_at: float = 0.5,
    matcher: BoxMatcher = "hungarian",
    require_label: bool = False,
    parts: tuple[RewardPart, ...] = ALL_PARTS,
) -> Reward:
    """Form, recall and precision of a list of boxes, added up.

    Args:
        episode: Its sample is a detection row.
        profile: The paper's equations, or the released code.
        switch_at: Share of all steps after which the rules tighten; 1 is never. The paper's best
            is 1/2 for a strong detector, 1 for a weaker one. The released code switches at step
            1500 of its 3060, with release_adaptive alone.
        matcher: As `vision_r1_reward`, profile paper.
        require_label: As `vision_r1_reward`, profile paper.
        parts: Which of the three are paid; all are logged.

    Returns:
        In [0, 3], its parts beside it.

    Raises:
        RecordError: The sample is no detection row.
    """
    stage = vision_r1_stage(episode.step, episode.num_steps, switch_at=switch_at)
    found = box_reward(
        episode.text,
        detection_row(episode.sample),
        profile=profile,
        is_tight=stage == "advanced",
        matcher=matcher,
        require_label=require_label,
    )
    values = {"format": found.format, "recall": found.recall, "precision": found.precision}
    note = "" if found.overlaps or found.format else "no box can be read"
    return Reward(sum(values[part] for part in parts), note, values)


def box_reward(
    completion: str,
    row: DetectionRow,
    *,
    profile: Profile = "paper",
    is_tight: bool = False,
    matcher: BoxMatcher = "hungarian",
    require_label: bool = False,
) -> BoxReward:
    """What a completion earns for its boxes, by any profile.

    Args:
        completion: Whole model output.
        row: Gold boxes and sizes.
        profile: As `vision_r1`.
        is_tight: Whether the rules of the later stage hold.
        matcher: As `vision_r1`.
        require_label: As `vision_r1`.
    """
    if profile == "paper":
        return vision_r1_reward(
            completion,
            row.gold,
            row.sizes,
            stage="advanced" if is_tight else "beginning",
            matcher=matcher,
            require_label=require_label,
        )
    names = dict.fromkeys(box.label for box in row.gold)
    ids = {name: number for number, name in enumerate(names, start=1)}
    adaptive: Literal["adaptive_early", "adaptive_late"]
    adaptive = "adaptive_late" if is_tight else "adaptive_early"
    return vision_r1_release_reward(
        completion,
        row.gold,
        row.sizes,
        ids,
        profile="launched" if profile == "release" else adaptive,
    )


def _sizes(known: Mapping[str, Any], where: str) -> ImageSizes:
    space: Any = known.get("coord_space")
    if space not in COORD_SPACES:
        choice = "; ".join(f"{name}: {meaning}" for name, meaning in COORD_SPACES.items())
        raise RecordError(
            f"{where}: coord_space is {space!r}; say in what the prompt asks for boxes, as it is "
            f"never guessed: {choice}"
        )
    width, height = (_size(known, name, where) for name in ("width", "height"))
    if space == "input_pixels":
        across, down = (_size(known, name, where) for name in ("input_width", "input_height"))
        return ImageSizes(width, height, across, down)
    sizes = coord_sizes(width, height, space)
    ends = (sizes.input_width, sizes.input_height)
    given = (known.get("input_width"), known.get("input_height"))
    if given not in ((None, None), ends):
        raise RecordError(
            f"{where}: coord_space {space} ends at {ends}, found input_width and input_height "
            f"{given}; leave these out, or ask for input_pixels"
        )
    return sizes


def _size(known: Mapping[str, Any], name: str, where: str) -> int:
    size = known.get(name)
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        raise RecordError(
            f"{where}: {name} is {size!r}, expected pixels, a whole number above 0; the original "
            f"size is never taken for that of the model's input"
        )
    return size
