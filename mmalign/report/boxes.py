"""Pictures with gold boxes and those that a model wrote, how well they fit, and what they earn."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pydantic import ValidationError
from rich.table import Table

from mmalign.errors import ConfigError, MediaError, RecordError
from mmalign.media import load_image
from mmalign.records import Sample
from mmalign.rewards.boxes import LabelledBox, parse_boxes, scale_box
from mmalign.rewards.detection import DetectionRow, box_reward, detection_row
from mmalign.rewards.vision_r1 import BoxReward

__all__ = ["SHOWN_FILE", "BoxView", "boxes_picture", "boxes_table", "read_box_views"]

SHOWN_FILE = "shown.samples.jsonl"
"""In `eval/`: the first samples of a detection set, for the report."""
_GOLD, _HIT, _MISS = "#ffffff", "#37d67a", "#ff5d5d"
_FOUND_FROM = 0.5
_INCHES, _DPI = 2.6, 110


@dataclass(frozen=True)
class BoxView:
    """A picture of the report."""

    sample_id: str
    question: str
    src: str
    """A data: URI of a PNG; empty where `problem` says why."""
    totals: tuple[str, ...]
    """What each arm earns, in words."""
    problem: str = ""


def boxes_picture(
    sample: Sample, completions: Mapping[str, str], path: Path | io.BytesIO
) -> Path | io.BytesIO:
    """Draw the gold boxes dashed, and those of each completion with their IoU.

    A box is green where its IoU with its gold box reaches 0.5, else red.

    Args:
        sample: A detection row with one picture.
        completions: By the name that stands above: an arm, a rollout.
        path: The ending gives the format: .png, .svg, .pdf; PNG where it is a buffer.

    Raises:
        RecordError: The sample is no detection row.
        MediaError: Its picture cannot be read.
        ConfigError: It has no picture, or there is no completion to draw.
    """
    row = detection_row(sample)
    pictures = [media for media in sample.media if media.kind == "image"]
    if not pictures or not completions:
        raise ConfigError(
            f'sample "{sample.id}": has {len(pictures)} pictures and {len(completions)} '
            f"completions; boxes are drawn with one or more of each"
        )
    frame = load_image(pictures[0])
    figure = Figure(figsize=(_INCHES * len(completions), _INCHES + 0.5), dpi=_DPI)
    panels = figure.subplots(1, len(completions), squeeze=False)[0]
    for axes, (name, completion) in zip(panels, completions.items(), strict=True):
        axes.imshow(
            frame, interpolation="nearest", extent=(0, row.sizes.width, row.sizes.height, 0)
        )
        found = box_reward(completion, row)
        _draw(axes, row, completion, found)
        axes.set_title(f"{name}\n{reward_text(found)}", fontsize=7)
        axes.set_axis_off()
    figure.tight_layout()
    ending = "png" if isinstance(path, io.BytesIO) else path.suffix.removeprefix(".")
    figure.savefig(path, format=ending)
    return path


def reward_text(found: BoxReward) -> str:
    """The three parts and their sum, by the paper's first stage."""
    return (
        f"form {found.format:.0f} + recall {found.recall:.2f} + precision {found.precision:.2f} "
        f"= {found.total:.2f}"
    )


def boxes_table(sample: Sample, completions: Mapping[str, str]) -> Table:
    """Each written box with its label, its gold box's label and the IoU of both, for a terminal."""
    row = detection_row(sample)
    table = Table(
        "", "box", "label", "gold", "IoU", title=f"{sample.id}: {len(row.gold)} gold boxes"
    )
    for name, completion in completions.items():
        found = box_reward(completion, row)
        gold_of = dict(zip(*found.matches, strict=True))
        boxes = _in_picture(completion, row)
        for place, (box, iou) in enumerate(zip(boxes, found.overlaps, strict=True)):
            partner = row.gold[gold_of[place]].label if place in gold_of else "none"
            corners = ", ".join(f"{edge:.0f}" for edge in box.corners)
            table.add_row(name if place == 0 else "", corners, box.label, partner, f"{iou:.2f}")
        table.add_row(name if not boxes else "", "", "", "", reward_text(found), end_section=True)
    return table


def read_box_views(folder: Path, arms: Sequence[str]) -> list[BoxView]:
    """The pictures of a run that was scored on a detection set; none of any other run.

    Args:
        folder: `eval/` of the run.
        arms: Whose answers are drawn side by side.
    """
    path = folder / SHOWN_FILE
    if not path.is_file():
        return []
    predictions = {arm: _answers(folder / f"{arm}.predictions.jsonl") for arm in arms}
    views = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            sample = Sample.model_validate_json(line)
        except ValidationError as error:
            views.append(BoxView("", "", "", (), f"{path.name}: {error}"))
            continue
        said = {arm: texts[sample.id] for arm, texts in predictions.items() if sample.id in texts}
        if said:
            views.append(_view(sample, said))
    return views


def _answers(path: Path) -> dict[str, str]:
    """Completions by sample."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {str(row["id"]): str(row["prediction"]) for row in rows if "prediction" in row}


def _view(sample: Sample, completions: Mapping[str, str]) -> BoxView:
    buffer = io.BytesIO()
    try:
        boxes_picture(sample, completions, buffer)
        row = detection_row(sample)
    except (RecordError, MediaError, ConfigError) as error:
        return BoxView(sample.id, sample.question, "", (), str(error))
    encoded = base64.b64encode(buffer.getvalue()).decode()
    totals = tuple(
        f"{name}: {reward_text(box_reward(text, row))}" for name, text in completions.items()
    )
    return BoxView(sample.id, sample.question, f"data:image/png;base64,{encoded}", totals)


def _draw(axes: Axes, row: DetectionRow, completion: str, found: BoxReward) -> None:
    for gold in row.gold:
        axes.add_patch(_rectangle(gold, color=_GOLD, linestyle="--", linewidth=0.8))
    boxes: Sequence[LabelledBox] = _in_picture(completion, row)
    for box, iou in zip(boxes, found.overlaps, strict=True):
        color = _HIT if iou >= _FOUND_FROM else _MISS
        axes.add_patch(_rectangle(box, color=color, linestyle="-", linewidth=1.2))
        axes.text(
            box.x1,
            box.y1,
            f"{box.label} {iou:.2f}",
            color=color,
            fontsize=5,
            verticalalignment="bottom",
            parse_math=False,
        )
    axes.set_xlim(0, row.sizes.width)
    axes.set_ylim(row.sizes.height, 0)


def _rectangle(box: LabelledBox, *, color: str, linestyle: str, linewidth: float) -> Rectangle:
    return Rectangle(
        (box.x1, box.y1),
        box.x2 - box.x1,
        box.y2 - box.y1,
        fill=False,
        edgecolor=color,
        linestyle=linestyle,
        linewidth=linewidth,
    )


def _in_picture(completion: str, row: DetectionRow) -> list[LabelledBox]:
    """The boxes of a completion in pixels of the picture."""
    x_factor = row.sizes.width / row.sizes.input_width
    y_factor = row.sizes.height / row.sizes.input_height
    return [scale_box(box, x_factor=x_factor, y_factor=y_factor) for box in parse_boxes(completion)]
