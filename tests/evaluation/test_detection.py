"""mAP by hand, against pycocotools' own sums, and under redrawn images."""

import io
import json
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest

from mmalign.errors import MissingPredictionsError, RecordError
from mmalign.evaluation import Prediction, Scores, intervals, paired_bootstrap, score
from mmalign.evaluation.detection import average_precisions
from mmalign.records import Sample, user

Labelled = tuple[str, list[float]]


def image(name: str, boxes: list[Labelled], **metadata: Any) -> Sample:
    return Sample(
        id=name,
        messages=(user("find all"),),
        boxes=tuple((b[0], b[1], b[2], b[3]) for _, b in boxes),
        metadata={
            "labels": [label for label, _ in boxes],
            "width": 100,
            "height": 100,
            "coord_space": "image_pixels",
            **metadata,
        },
    )


def written(boxes: list[Labelled]) -> str:
    return json.dumps([{"bbox_2d": [*map(int, b)], "label": label} for label, b in boxes])


def scored(items: list[Sample], texts: list[str], **settings: Any) -> Scores:
    answers = [Prediction(id=i.id, prediction=t) for i, t in zip(items, texts, strict=True)]
    return score(items, answers, metric="detection", **settings)


CAT: Labelled = ("cat", [0, 0, 100, 100])
DOG: Labelled = ("dog", [10, 10, 50, 50])


def test_a_perfect_box_is_100() -> None:
    found = scored([image("a", [CAT])], [written([CAT])])
    assert found.metrics == pytest.approx({"mAP": 100, "AP50": 100, "AP75": 100, "AR100": 100})


def test_a_box_of_iou_062_counts_at_three_of_ten_thresholds() -> None:
    found = scored([image("a", [CAT])], [written([("cat", [0, 0, 100, 62])])])
    assert found.metrics == pytest.approx({"mAP": 30, "AP50": 100, "AP75": 0, "AR100": 30})


def test_all_scores_are_alike_so_the_order_of_boxes_decides() -> None:
    junk: Labelled = ("cat", [0, 0, 10, 10])
    right_first = scored([image("a", [CAT])], [written([CAT, junk])])
    wrong_first = scored([image("a", [CAT])], [written([junk, CAT])])
    assert right_first.metrics["AP50"] == pytest.approx(100)
    assert wrong_first.metrics["AP50"] == pytest.approx(50.0)
    assert wrong_first.metrics["AR100"] == pytest.approx(100)


def test_nothing_written_is_0_and_unreadable_answers_are_counted() -> None:
    items = [image("a", [CAT]), image("b", [DOG])]
    found = scored(items, ["[]", "a cat"])
    assert set(found.metrics.values()) == {0.0}
    assert found.unparsed == 1


def test_categories_without_gold_are_left_out_and_unknown_labels_counted() -> None:
    found = scored(
        [image("a", [CAT])], [written([CAT, ("bird", [0, 0, 9, 9]), ("Cat ", [1, 1, 9, 9])])]
    )
    assert found.metrics["AP50"] == pytest.approx(100)
    assert found.counts["categories"] == 1
    assert found.counts["unknown_labels"] == 1
    assert found.counts["boxes"] == 2


def test_a_crowd_is_neither_hit_nor_missed() -> None:
    crowd = [["dog", 0, 0, 100, 100]]
    items = [image("a", [DOG]), image("b", [CAT], crowd_boxes=crowd)]
    inside: list[Labelled] = [("dog", [60, 60, 90, 90]), ("dog", [0, 60, 30, 90])]
    found = scored(items, [written([DOG]), written([*inside, CAT])])
    assert found.metrics["mAP"] == pytest.approx(100)
    assert scored([items[0], image("b", [CAT])], [written([DOG]), written([*inside, CAT])]).metrics[
        "AP50"
    ] == pytest.approx(100.0)  # the dog stands first; what is wrong behind it costs nothing
    swapped = scored([image("b", [CAT]), items[0]], [written([*inside, CAT]), written([DOG])])
    assert swapped.metrics["AP50"] == pytest.approx((100 + 100 / 3) / 2)


def test_queries_about_one_image_are_pooled_and_mean_what_they_ask_for() -> None:
    items = [
        image("a-cat", [CAT], image_id="a", asked="cat"),
        image("a-dog", [DOG], image_id="a", asked="dog"),
    ]
    found = scored(items, [written([("kitten", CAT[1])]), written([DOG])])
    assert found.metrics["mAP"] == pytest.approx(100)
    assert (found.counts["items"], found.counts["units"]) == (2, 1)


def test_a_cut_off_answer_keeps_its_complete_boxes() -> None:
    text = written([CAT, DOG])[:-12]
    found = scored([image("a", [CAT, DOG])], [text])
    assert found.metrics["AP50"] == pytest.approx(50.0)
    assert found.counts["boxes"] == 1


def test_boxes_are_scaled_from_what_the_row_asks_for() -> None:
    row = image("a", [DOG], coord_space="thousandths")
    assert scored([row], [written([("dog", [100, 100, 500, 500])])]).metrics[
        "mAP"
    ] == pytest.approx(100)
    assert scored([row], [written([DOG])]).metrics["mAP"] == 0.0


def test_missing_and_impossible_rows_are_refused() -> None:
    items = [image("a", [CAT]), image("b", [DOG])]
    with pytest.raises(MissingPredictionsError, match="1 of 2 samples have no prediction: b"):
        score(items, [Prediction(id="a", prediction="[]")], metric="detection")
    with pytest.raises(RecordError, match="no row has a gold box"):
        scored([image("a", [])], ["[]"])


def random_world(seed: int) -> tuple[list[Sample], list[str]]:
    """Thirty images whose answers miss boxes, move them, and add some."""
    rng = np.random.default_rng(seed)
    items, texts = [], []
    for number in range(30):
        gold: list[Labelled] = []
        said: list[Labelled] = []
        for _ in range(int(rng.integers(0, 6))):
            x, y = rng.integers(0, 60, 2)
            box = [float(v) for v in (x, y, x + rng.integers(8, 40), y + rng.integers(8, 40))]
            label = ("cat", "dog", "bird")[int(rng.integers(3))]
            if rng.random() < 0.85:
                gold.append((label, box))
            if rng.random() < 0.8:
                moved = [float(v) for v in np.clip(np.array(box) + rng.integers(-4, 5, 4), 0, 100)]
                said.append((label, moved))
        items.append(image(f"i{number:02}", gold))
        texts.append(written([b for b in said if b[1][0] < b[1][2] and b[1][1] < b[1][3]]))
    return items, texts


def reference(items: list[Sample], texts: list[str]) -> dict[str, float]:
    """What pycocotools itself sums up."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    names = sorted({str(n) for i in items for n in i.metadata["labels"]})
    gold, said = [], []
    for number, (item, text) in enumerate(zip(items, texts, strict=True), start=1):
        for label, (a, b, c, d) in zip(item.metadata["labels"], item.boxes or (), strict=True):
            gold.append((number, names.index(str(label)) + 1, [a, b, c - a, d - b]))
        for one in json.loads(text):
            a, b, c, d = one["bbox_2d"]
            said.append((number, names.index(one["label"]) + 1, [a, b, c - a, d - b]))
    rows = [
        [
            {"id": n, "image_id": i, "category_id": k, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, (i, k, b) in enumerate(part, start=1)
        ]
        for part in (gold, said)
    ]
    shared = {
        "images": [{"id": number} for number in range(1, len(items) + 1)],
        "categories": [{"id": number} for number in range(1, len(names) + 1)],
    }
    with redirect_stdout(io.StringIO()):
        truth, answers = COCO(), COCO()
        truth.dataset = {**shared, "annotations": rows[0]}
        truth.createIndex()
        answers.dataset = {**shared, "annotations": [{**row, "score": 0.99} for row in rows[1]]}
        answers.createIndex()
        evaluation = COCOeval(truth, answers, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [100 * float(v) for v in evaluation.stats]
    return {"mAP": values[0], "AP50": values[1], "AP75": values[2], "AR100": values[8]}


@pytest.mark.parametrize("seed", range(6))
def test_values_equal_those_of_pycocotools(seed: int) -> None:
    items, texts = random_world(seed)
    assert scored(items, texts).metrics == pytest.approx(reference(items, texts), abs=1e-9)


def test_an_image_drawn_twice_counts_like_two_images() -> None:
    """With its twin right behind it and one box an image, the curves are the same."""
    items = [image(f"i{n}", [CAT if n % 2 else ("cat", [0.0, 0.0, 20.0, 20.0])]) for n in range(4)]
    texts = [written([CAT])] * 4
    weights = np.array([[1.0, 2.0, 0.0, 2.0]])
    again = [item.model_copy(update={"id": f"{item.id}-{k}"}) for item in items for k in range(2)]
    rows = [again[0], again[2], again[3], again[6], again[7]]
    twice = scored(rows, [written([CAT])] * 5).metrics
    table = scored(items, texts).table
    assert table.further is not None
    drawn = table.further(weights)
    assert {name: 100 * float(v[0]) for name, v in drawn.items()} == pytest.approx(twice)


def test_draws_without_any_gold_are_0() -> None:
    items = [image("a", [CAT]), image("b", [])]
    table = scored(items, [written([CAT]), "[]"]).table
    assert table.further is not None
    drawn = table.further(np.array([[0.0, 2.0], [2.0, 0.0]]))["mAP"]
    assert drawn.tolist() == pytest.approx([0.0, 1.0])


def test_intervals_and_differences_redraw_images() -> None:
    items, texts = random_world(3)
    poor = scored(items, ["[]" if n % 3 else text for n, text in enumerate(texts)])
    good = scored(items, texts)
    low, high = intervals(good.table, num_draws=400)["mAP"]
    assert low < good.metrics["mAP"] < high
    gap = paired_bootstrap([poor.table], [good.table], "mAP", num_draws=400)
    assert gap.value == pytest.approx(good.metrics["mAP"] - poor.metrics["mAP"])
    assert 0 < gap.low < gap.value < gap.high
    assert average_precisions([], np.ones((1, 3)))["mAP"].tolist() == [0.0]
