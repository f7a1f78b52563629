"""Vision-R1's reward of a rollout: rows that say what they mean, parts, stages, junk boxes."""

import json
from typing import Any

import pytest

from mmalign.errors import RecordError
from mmalign.records import Sample, user
from mmalign.rewards.contract import Episode
from mmalign.rewards.detection import RewardPart, detection_row, vision_r1, written_boxes
from mmalign.rewards.episodes import ROLLOUT_REWARDS
from mmalign.rewards.reward import Reward

METADATA: dict[str, Any] = {
    "labels": ["cat", "dog"],
    "width": 200,
    "height": 200,
    "coord_space": "input_pixels",
    "input_width": 100,
    "input_height": 100,
}
BOXES = ((0.0, 0.0, 40.0, 40.0), (100.0, 100.0, 180.0, 180.0))
RIGHT = [("cat", [0, 0, 20, 20]), ("dog", [50, 50, 90, 90])]


def sample(boxes: Any = BOXES, **metadata: Any) -> Sample:
    known = {k: v for k, v in {**METADATA, **metadata}.items() if v is not None}
    return Sample(id="s1", messages=(user("find all"),), boxes=boxes, metadata=known)


def written(boxes: list[tuple[str, list[int]]]) -> str:
    return json.dumps([{"bbox_2d": corners, "label": label} for label, corners in boxes])


def earned(text: str, row: Sample | None = None, *, step: int = 0, **settings: Any) -> Reward:
    episode = Episode(
        sample=row or sample(),
        text=text,
        answer=text,
        num_tokens=1,
        num_tool_calls=0,
        tool_cost=0.0,
        stop="end",
        step=step,
        num_steps=10,
    )
    found = vision_r1(episode, **settings)
    assert isinstance(found, Reward)
    return found


def test_the_reward_has_a_name_in_recipes() -> None:
    assert ROLLOUT_REWARDS["vision_r1"] is vision_r1
    assert (vision_r1.low, vision_r1.high) == (0.0, 3.0)


def test_worked_by_hand() -> None:
    """One of two found exactly, one box more: format 1, recall f(1/2) = 1/2, precision 1/2."""
    found = earned(written([RIGHT[0], ("dog", [0, 90, 9, 99])]))
    assert found.parts == {"format": 1.0, "recall": 0.5, "precision": 0.5}
    assert found.value == 2.0


def test_text_without_boxes_earns_nothing_and_a_note() -> None:
    assert earned("two animals") == Reward(
        0.0, "no box can be read", {"format": 0.0, "recall": 0.0, "precision": 0.0}
    )
    assert earned("[]").note == ""


@pytest.mark.parametrize("space", ["input_pixels", "image_pixels", "thousandths"])
def test_the_same_places_earn_the_same_in_every_space(space: str) -> None:
    factor = {"input_pixels": 1, "image_pixels": 2, "thousandths": 10}[space]
    text = written([(label, [factor * edge for edge in box]) for label, box in RIGHT])
    row = sample(coord_space=space, input_width=None, input_height=None)
    if space == "input_pixels":
        row = sample()
    assert earned(text, row).value == 3.0
    other = written([(label, [3 * factor * edge for edge in box]) for label, box in RIGHT])
    assert earned(other, row).value < 1.5


def test_the_rules_tighten_at_a_share_of_the_steps() -> None:
    text = written([RIGHT[0], ("dog", [50, 50, 90, 78])])  # IoU 0.7
    early, late = earned(text, step=4), earned(text, step=5)
    assert early.parts == {"format": 1.0, "recall": 1.0, "precision": pytest.approx(0.85)}
    assert late.parts == {"format": 1.0, "recall": 0.0, "precision": 0.5}
    assert earned(text, step=9, switch_at=1.0) == early
    assert earned(text, step=0, switch_at=0.0) == late


@pytest.mark.parametrize("num_junk", [1, 5, 20])
def test_recall_alone_pays_junk_boxes_and_the_whole_reward_does_not(num_junk: int) -> None:
    """The second animal is found by no honest box; boxes everywhere hit it by chance."""
    honest = [RIGHT[0]]
    junk = [("dog", [48, 48, 88, 88])]
    junk += [("dog", [9 * (n % 10), 25 + n, 9 * (n % 10) + 9, 30 + n]) for n in range(num_junk - 1)]
    only: tuple[RewardPart, ...] = ("recall",)
    little, much = written(honest), written(honest + junk)
    assert earned(much, parts=only).value == 1.0 > earned(little, parts=only).value == 0.5
    missing = [("dog", [0, 25 + n, 5, 30 + n]) for n in range(num_junk)]
    wasted = written(honest + missing)
    assert earned(wasted, parts=only).value == earned(little, parts=only).value
    assert earned(wasted).value < earned(little).value
    if num_junk == 20:  # the hit by chance does not pay for the misses
        assert earned(much).value < earned(little).value


def test_released_rules_pay_for_junk_boxes() -> None:
    junk = written([*RIGHT, ("dog", [0, 90, 9, 99])])
    assert earned(junk, profile="release").value == earned(written(RIGHT), profile="release").value
    assert earned(junk).value < earned(written(RIGHT)).value


def test_released_rules_that_tighten_do_so_at_the_same_share() -> None:
    text = written([RIGHT[0], ("dog", [50, 50, 90, 82])])  # IoU and GIoU 0.8
    early = earned(text, profile="release_adaptive", step=4)
    late = earned(text, profile="release_adaptive", step=5)
    assert early.parts["precision"] == 1.0
    assert late.parts["precision"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"coord_space": None}, "coord_space is None; say in what the prompt asks for boxes"),
        ({"coord_space": "unit"}, "coord_space is 'unit'.*thousandths: 0 to 1000"),
        ({"input_width": None}, "input_width is None.*never taken for that of the model's input"),
        ({"height": 0}, "height is 0, expected pixels"),
        ({"labels": ["cat"]}, r"has 2 boxes and labels \['cat'\]"),
        ({"num_instances": 3}, "num_instances is 3, it has 2 boxes"),
        ({"width": 150}, "outside the image of 150 x 200"),
        ({"coord_space": "thousandths"}, "thousandths ends at .1000, 1000., found .* .100, 100."),
    ],
)
def test_rows_that_do_not_say_what_they_mean_are_refused(
    metadata: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecordError, match=f'(?s)sample "s1": .*{message}'):
        detection_row(sample(**metadata))


def test_gold_boxes_of_another_kind_are_refused() -> None:
    with pytest.raises(RecordError, match="has no boxes"):
        detection_row(sample(boxes=None))
    with pytest.raises(RecordError, match="given as x, y, width, height, give corners"):
        detection_row(sample(boxes=((50.0, 50.0, 20.0, 20.0), BOXES[1])))
    with pytest.raises(RecordError, match="look like shares of its size; give pixels"):
        detection_row(sample(boxes=((0.1, 0.1, 0.2, 0.2), (0.5, 0.5, 0.9, 0.9))))


def test_gold_is_written_in_what_is_asked_for_with_the_label_on_either_side() -> None:
    row = detection_row(sample())
    assert written_boxes(row.gold, row.sizes) == written(RIGHT)
    first = written_boxes(row.gold[:1], row.sizes, label_first=True)
    assert first == '[{"label": "cat", "bbox_2d": [0, 0, 20, 20]}]'
    assert earned(written_boxes(row.gold, row.sizes, label_first=True)).value == 3.0
