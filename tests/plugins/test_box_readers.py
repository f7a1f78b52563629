"""COCO and ODinW, on made-up files of the same form."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import Qwen2VLImageProcessor

from mmalign.datasets import coco, odinw
from mmalign.errors import ConfigError, RecordError
from mmalign.evaluation import Prediction, score
from mmalign.rewards.boxes import parse_boxes
from mmalign.rewards.detection import box_reward, detection_row

CATEGORIES = [
    {"id": 7, "name": "cat"},
    {"id": 9, "name": "dog"},
    {"id": 3, "name": "traffic light"},
]


def annotation(number: int, image: int, category: int, bbox: list[float], **more: Any) -> Any:
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


BOXES = [
    annotation(1, 20, 7, [10.5, 20.0, 100.0, 200.25]),
    annotation(2, 20, 9, [300.0, 100.0, 340.4, 300.0]),  # 0.4 beyond the right edge
    annotation(3, 20, 7, [0.0, 0.0, 30.0, 30.0]),
    annotation(4, 20, 9, [0.0, 0.0, 640.0, 480.0], iscrowd=1),
    annotation(5, 20, 9, [5.0, 5.0, 0.0, 10.0]),  # no area
    annotation(6, 10, 9, [1.0, 1.0, 9.0, 9.0]),
]


def write(
    root: Path, annotations: list[Any] = BOXES, *, sizes: dict[int, tuple[int, int]] | None = None
) -> Path:
    sizes = sizes or {20: (640, 480), 10: (50, 40), 15: (100, 100)}
    root.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": n, "file_name": f"{n}.jpg", "width": w, "height": h} for n, (w, h) in sizes.items()
    ]
    path = root / "instances.json"
    path.write_text(
        json.dumps({"images": images, "categories": CATEGORIES, "annotations": annotations})
    )
    return path


def rows(path: Path, **settings: Any) -> list[Any]:
    return list(coco.read(path, path.parent / "pictures", **settings))


def test_one_row_a_picture_in_the_order_of_ids(tmp_path: Path) -> None:
    found = rows(write(tmp_path))
    assert [row.id for row in found] == ["10", "15", "20"]
    row = found[2]
    assert row.boxes == (
        (10.5, 20.0, 110.5, 220.25),
        (300.0, 100.0, 640.0, 400.0),
        (0.0, 0.0, 30.0, 30.0),
    )
    assert row.metadata["labels"] == ["cat", "dog", "cat"]
    assert row.metadata["crowd_boxes"] == [["dog", 0.0, 0.0, 640.0, 480.0]]
    assert row.metadata["num_without_area"] == 1
    assert row.media[0].uri.endswith("pictures/20.jpg")
    assert "cat, dog, traffic light" in row.question
    assert found[1].boxes == ()
    assert found[1].answer == "[]"


def test_the_input_size_is_that_of_qwens_processor(tmp_path: Path) -> None:
    limits = {"multiple": 28, "min_pixels": 3136, "max_pixels": 100_000}
    found = rows(write(tmp_path), limits=limits)
    processor = Qwen2VLImageProcessor(
        patch_size=14, merge_size=2, size={"shortest_edge": 3136, "longest_edge": 100_000}
    )
    for row in found:
        sizes = detection_row(row).sizes
        picture = Image.new("RGB", (sizes.width, sizes.height))
        (grid,) = processor(picture, return_tensors="pt")["image_grid_thw"].tolist()
        assert (sizes.input_height, sizes.input_width) == (grid[1] * 14, grid[2] * 14)
        assert f"{sizes.input_width} x {sizes.input_height}" in row.question


@pytest.mark.parametrize("space", ["input_pixels", "image_pixels", "thousandths"])
def test_gold_answers_earn_nearly_all_in_every_space(space: Any, tmp_path: Path) -> None:
    row = rows(write(tmp_path), coord_space=space)[2]
    assert len(parse_boxes(row.answer)) == 3
    assert box_reward(row.answer, detection_row(row)).total > 2.9
    other = rows(write(tmp_path), limits={"max_pixels": 100_000})[2]
    assert box_reward(row.answer, detection_row(other)).total < 1.5


def test_a_query_for_each_category_that_the_picture_shows(tmp_path: Path) -> None:
    found = rows(write(tmp_path), query="each")
    asked = [(row.id, row.metadata["asked"]) for row in found]
    assert asked == [("10/0", "dog"), ("20/0", "cat"), ("20/1", "dog")]
    assert len(found[1].boxes) == 2
    assert "crowd_boxes" not in found[1].metadata
    assert found[2].metadata["crowd_boxes"] == [["dog", 0.0, 0.0, 640.0, 480.0]]
    answers = [Prediction(id=row.id, prediction=row.answer) for row in found]
    scores = score(found, answers, metric="detection")
    assert scores.counts["units"] == 2
    assert scores.metrics["AP50"] == pytest.approx(100)


def test_rows_can_be_chosen_by_the_number_of_boxes(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert [row.id for row in rows(path, min_instances=1)] == ["10", "20"]
    assert [row.id for row in rows(path, min_instances=1, max_instances=2)] == ["10"]
    assert [row.id for row in rows(path, num_samples=1)] == ["10"]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([annotation(8, 10, 7, [30.0, 30.0, 45.0, 39.0])], "annotation 8: bbox .* lies outside"),
        ([annotation(8, 10, 7, [1.0, 2.0, 3.0])], r"bbox is \[1.0, 2.0, 3.0\], expected \[x, y,"),
        ([annotation(8, 99, 7, [1.0, 2.0, 3.0, 4.0])], "image_id 99 or category_id 7 is not in"),
        ([annotation(8, 10, 1, [1.0, 2.0, 3.0, 4.0])], "category_id 1 is not in the file"),
        ([annotation(8, 10, 7, [0.1, 0.1, 0.2, 0.2])], "look like shares of its size"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(
    boxes: list[Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match=message):
        rows(write(tmp_path, boxes))


def test_a_file_in_thousandths_is_refused(tmp_path: Path) -> None:
    boxes = [annotation(n, 1, 7, [40.0 * n, 10.0, 30.0, 900.0]) for n in range(20)]
    with pytest.raises(RecordError, match="all 20 boxes of pictures wider than 1200"):
        rows(write(tmp_path, boxes, sizes={1: (2000, 1000)}))
    boxes[-1]["bbox"] = [1500.0, 10.0, 30.0, 900.0]
    assert len(rows(write(tmp_path, boxes, sizes={1: (2000, 1000)}))) == 1


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images": [], "categories": [3]}')
    with pytest.raises(RecordError, match="has no list 'categories' of objects"):
        rows(path)
    with pytest.raises(ConfigError, match=r"b\.json"):
        rows(tmp_path / "b.json")


# ODinW --------------------------------------------------------------------------------------


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    for place in ("pothole/valid", "EgoHands/generic/valid", "EgoHands/specific/valid"):
        path = write(tmp_path / place)
        path.rename(path.with_name("annotations_without_background.json"))
    path = write(tmp_path / "pistols/export")
    path.rename(path.with_name("val_annotations_without_background.json"))
    path = write(tmp_path / "pistols/export")
    path.rename(path.with_name("train_annotations_without_background.json"))
    return tmp_path


def test_odinw_reads_the_validation_split_of_every_set(wild: Path) -> None:
    found = list(odinw.read(wild, sets=["pothole", "EgoHands", "pistols"]))
    assert [row.metadata["subset"] for row in found[::3]] == ["pothole", "EgoHands", "pistols"]
    assert found[0].id == "pothole/10/0"
    assert found[0].metadata["dataset"] == "odinw"
    assert "EgoHands/generic/valid" in found[3].media[0].uri


def test_odinw_is_the_mean_over_sets(wild: Path) -> None:
    found = list(odinw.read(wild, sets=["pothole", "pistols"]))
    answers = [
        Prediction(id=row.id, prediction=row.answer if row.id.startswith("pothole") else "[]")
        for row in found
    ]
    scores = score(found, answers, metric="detection")
    assert scores.subsets["pothole"]["AP50"] == pytest.approx(100)
    assert scores.subsets["pistols"]["AP50"] == 0.0
    assert scores.metrics["AP50"] == pytest.approx(50)


def test_odinw_refuses_unknown_sets_and_folders_without_annotations(wild: Path) -> None:
    with pytest.raises(ConfigError, match="found set 'potholes', expected one of AerialMaritime"):
        list(odinw.read(wild, sets=["potholes"]))
    with pytest.raises(ConfigError, match="Raccoon: found 0 files"):
        list(odinw.read(wild, sets=["Raccoon"]))


def test_thirteen_sets_are_customary() -> None:
    assert len(odinw.SETS) == 13
    assert not odinw.SETS.keys() & odinw.OUT_OF_DOMAIN.keys()
