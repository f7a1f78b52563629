"""Vision-R1: rewards for the boxes of a whole answer, by the paper and by its released code.

Boxes are those of Qwen2.5-VL, JSON in pixels of the model's input; Griffon's text is not read.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from mmalign.errors import RecordError, ShapeError
from mmalign.rewards.boxes import (
    BoxMatcher,
    LabelledBox,
    Matches,
    box_distances,
    box_overlaps,
    decode_json,
    match_boxes,
    parse_boxes,
    require_gold_boxes,
    scale_box,
)

__all__ = [
    "STAGES",
    "BoxReward",
    "ImageSizes",
    "ReleaseProfile",
    "Stage",
    "StageThresholds",
    "differentiate",
    "vision_r1_release_reward",
    "vision_r1_reward",
    "vision_r1_stage",
]

Stage = Literal["beginning", "advanced"]
ReleaseProfile = Literal["launched", "adaptive_early", "adaptive_late"]
"""`launched`: as the released script runs; the others: with its rules that tighten, from global
step 1500 on the late ones."""

RECOVERED_UP_TO = 1000
"""The largest coordinate that the released code reads out of broken JSON."""


class ImageSizes(NamedTuple):
    """The image as annotated and as the model saw it, in pixels."""

    width: int
    height: int
    input_width: int
    input_height: int


class StageThresholds(NamedTuple):
    """From which overlap on a box counts."""

    valid: float
    """xi0: the least IoU of a box that was found."""
    low: float
    """xi1: what is below earns nothing."""
    high: float
    """xi2: what reaches it earns all."""


STAGES: Mapping[Stage, StageThresholds] = {
    "beginning": StageThresholds(0.5, 0.5, 0.75),
    "advanced": StageThresholds(0.75, 0.75, 0.9),
}
"""The paper's two stages."""


class BoxReward(NamedTuple):
    """What a completion earns, and for which boxes."""

    format: float
    """0 or 1."""
    recall: float
    """In [0, 1]."""
    precision: float
    """In [0, 1]."""
    overlaps: tuple[float, ...]
    """Of each box read, in order, with its gold box: IoU, generalised in the release; 0 where it
    has none."""
    matches: Matches
    """Which box read (row) belongs to which gold box (column)."""

    @property
    def total(self) -> float:
        """The sum of the three, in [0, 3]."""
        return self.format + self.recall + self.precision


def vision_r1_stage(step: int, total_steps: int, *, switch_at: float = 0.5) -> Stage:
    """Which rules hold at a step: the advanced ones from `switch_at` of the training on.

    Args:
        step: From 0.
        total_steps: > 0.
        switch_at: STEP in the paper, in [0, 1]; 1/2 served a strong detector best, 1 (never) a
            weaker one.

    Raises:
        ShapeError: An argument is out of range.

    Source: Vision-R1 (Zhan et al., 2025), its progressive rule refinement.
    """
    if total_steps <= 0 or step < 0 or not 0 <= switch_at <= 1:
        raise ShapeError(
            f"step {step} of {total_steps} with switch_at {switch_at}: expected a step >= 0, "
            f"total_steps > 0 and switch_at in [0, 1]"
        )
    return "advanced" if step >= switch_at * total_steps else "beginning"


def differentiate(x: float, *, low: float, high: float) -> float:
    """Widen the gap between poor and good: 0 below low, 1 from high on, x between.

    Source: Vision-R1 (Zhan et al., 2025), its differentiation function.
    """
    if x < low:
        return 0.0
    return 1.0 if x >= high else x


def vision_r1_reward(
    completion: str,
    gold: Sequence[LabelledBox],
    sizes: ImageSizes,
    *,
    stage: Stage = "beginning",
    matcher: BoxMatcher = "hungarian",
    require_label: bool = False,
) -> BoxReward:
    """Reward a list of boxes for its form, for what it found and for how well it fits.

        recall    = f(boxes whose IoU reaches xi0 / gold boxes)
        precision = sum over boxes whose IoU reaches xi0 of f(IoU) / all boxes read

    with f of `differentiate`. Boxes are matched to gold boxes by L1 distance minus GIoU.

    Args:
        completion: Whole model output; boxes in pixels of the model's input.
        gold: Annotated boxes in pixels of the original image; empty where there is nothing.
        sizes: Both sizes of the image.
        stage: Which thresholds of `STAGES` hold.
        matcher: `hungarian` as in the paper; `greedy`, by the highest IoU, is a reconstruction.
        require_label: Whether a matched box with another label counts as IoU 0; a
            reconstruction: by the paper the label does not matter.

    Returns:
        Three rewards in [0, 1]. Without any box read, recall and precision are 0, or 1 where
        there is no gold box either; boxes where there is none earn 0 (reconstruction).

    Raises:
        RecordError: A gold box is no box in pixels of the image.
        ShapeError: A size is not positive.

    Source: Vision-R1 (Zhan et al., 2025), its criterion-driven reward; precision by its
        equation, which divides by all boxes, and not by its prose.
    """
    _require_sizes(sizes)
    require_gold_boxes(gold, width=sizes.width, height=sizes.height)
    thresholds = STAGES[stage]
    boxes = _scaled(parse_boxes(completion), sizes)
    overlaps = box_overlaps(boxes, gold)
    costs = box_distances(boxes, gold) - overlaps.gious
    matches = match_boxes(-overlaps.ious if matcher == "greedy" else costs, matcher=matcher)
    ious = [0.0] * len(boxes)
    for row, col in zip(*matches, strict=True):
        if not require_label or _same_label(boxes[row], gold[col]):
            ious[row] = float(overlaps.ious[row, col])
    found = [iou for iou in ious if iou >= thresholds.valid]
    if boxes and gold:
        _, low, high = thresholds
        recall = differentiate(len(found) / len(gold), low=low, high=high)
        precision = sum(differentiate(iou, low=low, high=high) for iou in found) / len(boxes)
    else:
        recall = precision = 0.0 if boxes or gold else 1.0
    return BoxReward(_paper_format(completion, sizes), recall, precision, tuple(ious), matches)


def vision_r1_release_reward(
    completion: str,
    gold: Sequence[LabelledBox],
    sizes: ImageSizes,
    label_ids: Mapping[str, int],
    *,
    profile: ReleaseProfile = "launched",
) -> BoxReward:
    """The reward as the released code gives it, its deviations from the paper included.

    The overlap is GIoU; an equal label lowers the cost of a match by 1; boxes beyond the matched
    ones cost nothing; any valid JSON passes as format; f gives all above, not at, its upper end.

        launched        recall sum f(q; 0.5, 0.5) / N      precision mean f(q; 0, 1)
        adaptive_early  f of that recall; 0.5, 0.75        precision mean f(q; 0.5, 0.75)
        adaptive_late   recall sum f(q; 0.75, 0.75) / N,   precision mean f(q; 0.75, 0.9)
                        then f of it; 0.5, 0.75

    Args:
        completion: Whole model output; boxes in pixels of the model's input.
        gold: Annotated boxes in pixels of the original image, one or more.
        sizes: Both sizes of the image.
        label_ids: Number of each class; a label that is not in it never matches.
        profile: Which of the three rules above.

    Returns:
        Three rewards in [0, 1]; recall and precision 0 without any box read.

    Raises:
        RecordError: A gold box is no box in pixels of the image, its label has no id, or there
            is none, where the released code fails.
        ShapeError: A size is not positive.

    Source: Vision-R1's code (jefferyZhan/Griffon), visionr1_qwen.py.
    """
    _require_sizes(sizes)
    require_gold_boxes(gold, width=sizes.width, height=sizes.height)
    if not gold:
        raise RecordError("there is no gold box; the release's rules need one or more")
    ids = {label.strip().lower(): number for label, number in label_ids.items()}
    gold_ids = [ids.get(_label(box)) for box in gold]
    if None in gold_ids:
        raise RecordError(f"gold label {gold[gold_ids.index(None)].label!r} is not in label_ids")
    boxes = _scaled(parse_boxes(completion, largest_recovered=RECOVERED_UP_TO), sizes)
    gious = box_overlaps(boxes, gold).gious
    costs = box_distances(boxes, gold) - gious
    for row, box in enumerate(boxes):
        costs[row] -= [ids.get(_label(box)) == number for number in gold_ids]
    matches = match_boxes(costs)
    matched = {row: float(gious[row, col]) for row, col in zip(*matches, strict=True)}
    recall, precision = _release_scores(list(matched.values()), len(gold), profile)
    return BoxReward(
        format=_release_format(completion),
        recall=recall,
        precision=precision,
        overlaps=tuple(matched.get(row, 0.0) for row in range(len(boxes))),
        matches=matches,
    )


class _Scores(NamedTuple):
    recall: float
    precision: float


def _release_scores(overlaps: Sequence[float], num_gold: int, profile: ReleaseProfile) -> _Scores:
    if not overlaps:
        return _Scores(0.0, 0.0)
    match profile:
        case "launched":
            least, low, high = 0.5, 0.0, 1.0
        case "adaptive_early":
            least, low, high = 0.5, 0.5, 0.75
        case "adaptive_late":
            least, low, high = 0.75, 0.75, 0.9
    recall = sum(_release_clip(q, least, least) for q in overlaps) / num_gold
    if profile != "launched":
        recall = _release_clip(recall, 0.5, 0.75)
    return _Scores(recall, sum(_release_clip(q, low, high) for q in overlaps) / len(overlaps))


def _release_clip(x: float, low: float, high: float) -> float:
    """`differentiate` with a strict upper end."""
    if x < low:
        return 0.0
    return 1.0 if x > high else x


def _paper_format(completion: str, sizes: ImageSizes) -> float:
    """1 for a list of objects with exactly a box in the input image and a label."""
    decoded = decode_json(completion)
    items = decoded.value
    return float(isinstance(items, list) and all(_is_well_formed(item, sizes) for item in items))


def _is_well_formed(item: Any, sizes: ImageSizes) -> bool:
    if not isinstance(item, dict) or item.keys() != {"bbox_2d", "label"}:
        return False
    label, box = item["label"], item["bbox_2d"]
    if not isinstance(label, str) or not label.strip():
        return False
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_whole, box)):
        return False
    x1, y1, x2, y2 = box
    return bool(0 <= x1 < x2 <= sizes.input_width and 0 <= y1 < y2 <= sizes.input_height)


def _is_whole(number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return isinstance(number, int) or number.is_integer()


def _release_format(completion: str) -> float:
    """1 for any JSON, unless an object with both keys has no list of four as its box."""
    decoded = decode_json(completion)
    items = decoded.value if isinstance(decoded.value, list) else []
    return float(
        decoded.valid
        and all(
            isinstance(item["bbox_2d"], list) and len(item["bbox_2d"]) == 4
            for item in items
            if isinstance(item, dict) and {"bbox_2d", "label"} <= item.keys()
        )
    )


def _scaled(boxes: Sequence[LabelledBox], sizes: ImageSizes) -> list[LabelledBox]:
    """From pixels of the model's input to those of the original image."""
    x_factor, y_factor = sizes.width / sizes.input_width, sizes.height / sizes.input_height
    return [scale_box(box, x_factor=x_factor, y_factor=y_factor) for box in boxes]


def _label(box: LabelledBox) -> str:
    return box.label.strip().lower()


def _same_label(box: LabelledBox, other: LabelledBox) -> bool:
    return _label(box) == _label(other)


def _require_sizes(sizes: ImageSizes) -> None:
    for name, size in sizes._asdict().items():
        if size <= 0:
            raise ShapeError(f"{name} is {size}, expected pixels of the image, > 0")
