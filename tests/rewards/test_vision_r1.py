"""Vision-R1's rewards: worked cases, both profiles side by side, refused gold."""

import json
from collections.abc import Sequence

import pytest

from mmalign.errors import RecordError, ShapeError
from mmalign.rewards.boxes import LabelledBox
from mmalign.rewards.vision_r1 import (
    STAGES,
    ImageSizes,
    ReleaseProfile,
    Stage,
    differentiate,
    vision_r1_release_reward,
    vision_r1_reward,
    vision_r1_stage,
)

SIZES = ImageSizes(width=200, height=200, input_width=100, input_height=100)
IDS = {"cat": 1, "dog": 2}
GOLD = [LabelledBox("cat", 0, 0, 40, 40), LabelledBox("dog", 100, 100, 180, 180)]
RIGHT = [("cat", [0, 0, 20, 20]), ("dog", [50, 50, 90, 90])]
JUNK = ("cat", [90, 0, 99, 9])
PROFILES: list[ReleaseProfile] = ["launched", "adaptive_early", "adaptive_late"]
STAGE_NAMES: list[Stage] = ["beginning", "advanced"]


def written(boxes: Sequence[tuple[str, list[int]]]) -> str:
    return json.dumps([{"bbox_2d": corners, "label": label} for label, corners in boxes])


def shorter(percent: int) -> str:
    """One box, so much of the height of the second gold box; IoU percent / 100."""
    return written([("dog", [0, 0, 100, percent])])


WHOLE = [LabelledBox("dog", 0, 0, 200, 200)]


def test_worked_by_hand() -> None:
    """Two gold boxes, three read: IoU 0.86 and 0.42, one without a partner.

    Recall f(1/2) = 0.5, precision (1 + 0 + 0) / 3, format 1: 1.8333.
    """
    gold = [LabelledBox("a", 0, 0, 100, 100), LabelledBox("b", 0, 100, 100, 200)]
    sizes = ImageSizes(200, 200, 200, 200)
    text = written([("a", [0, 0, 86, 100]), ("b", [0, 100, 42, 200]), ("b", [190, 0, 199, 9])])
    found = vision_r1_reward(text, gold, sizes)
    assert found.overlaps == pytest.approx((0.86, 0.42, 0.0))
    assert found.matches == ((0, 1), (0, 1))
    assert (found.format, found.recall, found.precision) == pytest.approx((1, 0.5, 1 / 3))
    assert found.total == pytest.approx(11 / 6)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_perfect_boxes_earn_three(stage: Stage) -> None:
    assert vision_r1_reward(written(RIGHT), GOLD, SIZES, stage=stage).total == 3


@pytest.mark.parametrize(("text", "total"), [("", 0), ("two cats", 0), ("[]", 1), ("{}", 0)])
def test_a_completion_without_boxes_earns_its_form_alone(text: str, total: float) -> None:
    assert vision_r1_reward(text, GOLD, SIZES).total == total


def test_where_there_is_nothing_an_empty_list_is_perfect_and_boxes_are_wrong() -> None:
    assert vision_r1_reward("[]", [], SIZES).total == 3
    assert vision_r1_reward(written(RIGHT), [], SIZES).total == 1


def test_the_order_of_boxes_does_not_matter() -> None:
    there = vision_r1_reward(written([*RIGHT, JUNK]), GOLD, SIZES)
    back = vision_r1_reward(written([JUNK, *RIGHT[::-1]]), GOLD, SIZES)
    assert back.total == pytest.approx(there.total)
    assert back.overlaps == there.overlaps[::-1]


def test_writing_a_box_twice_adds_no_recall_and_halves_precision() -> None:
    once, twice = (vision_r1_reward(written(RIGHT[:1] * n), GOLD, SIZES) for n in (1, 2))
    assert twice.recall == once.recall == 0.5
    assert (once.precision, twice.precision) == (1, 0.5)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_junk_box_costs_in_the_paper_and_not_in_the_release(profile: ReleaseProfile) -> None:
    plain, junk = written(RIGHT), written([*RIGHT, JUNK])
    paper = [vision_r1_reward(text, GOLD, SIZES).precision for text in (plain, junk)]
    assert paper == pytest.approx([1, 2 / 3])
    release = [
        vision_r1_release_reward(text, GOLD, SIZES, IDS, profile=profile).precision
        for text in (plain, junk)
    ]
    assert release == [1, 1]


@pytest.mark.parametrize(
    ("x", "value"), [(0.4999, 0), (0.5, 0.5), (0.7499, 0.7499), (0.75, 1), (0.9, 1)]
)
def test_differentiation_in_the_beginning_stage(x: float, value: float) -> None:
    _, low, high = STAGES["beginning"]
    assert differentiate(x, low=low, high=high) == value


@pytest.mark.parametrize("percent", range(40, 101, 5))
def test_the_advanced_stage_never_pays_more(percent: int) -> None:
    beginning, advanced = (
        vision_r1_reward(shorter(percent), WHOLE, SIZES, stage=stage) for stage in STAGE_NAMES
    )
    assert advanced.recall <= beginning.recall
    assert advanced.precision <= beginning.precision
    assert beginning.overlaps == pytest.approx((percent / 100,))


@pytest.mark.parametrize(
    ("profile", "percent", "recall", "precision"),
    [
        ("launched", 60, 1.0, 0.6),
        ("launched", 40, 0.0, 0.4),
        ("adaptive_early", 60, 1.0, 0.6),
        ("adaptive_early", 75, 1.0, 0.75),  # the upper end is strict: 1 in the paper
        ("adaptive_early", 80, 1.0, 1.0),
        ("adaptive_late", 60, 0.0, 0.0),
        ("adaptive_late", 80, 1.0, 0.8),
        ("adaptive_late", 95, 1.0, 1.0),
    ],
)
def test_release_rules_worked_by_hand(
    profile: ReleaseProfile, percent: int, recall: float, precision: float
) -> None:
    """One box inside its gold box: the hull is the gold box, so GIoU is IoU."""
    found = vision_r1_release_reward(shorter(percent), WHOLE, SIZES, IDS, profile=profile)
    assert (found.recall, found.precision) == pytest.approx((recall, precision))


def test_the_release_prefers_a_box_with_the_right_label() -> None:
    """Both are 1 pixel from the gold box; without the label the first one is taken."""
    gold = [LabelledBox("dog", 0, 0, 100, 100)]
    sizes = ImageSizes(100, 100, 100, 100)
    boxes = [("cat", [0, 0, 100, 99]), (" DOG ", [1, 0, 100, 100])]
    assert vision_r1_reward(written(boxes), gold, sizes).matches.rows == (0,)
    assert vision_r1_release_reward(written(boxes), gold, sizes, IDS).matches.rows == (1,)
    unknown = [boxes[0], ("unicorn", boxes[1][1])]
    assert vision_r1_release_reward(written(unknown), gold, sizes, IDS).matches.rows == (0,)


def test_a_wrong_label_earns_as_much_unless_labels_are_required() -> None:
    text = written([("dog", RIGHT[0][1]), ("dog", RIGHT[1][1])])
    assert vision_r1_reward(text, GOLD, SIZES).total == 3
    strict = vision_r1_reward(text, GOLD, SIZES, require_label=True)
    assert (strict.recall, strict.precision) == (0.5, 0.5)


def test_greedy_matching_takes_the_best_overlap_and_leaves_the_rest() -> None:
    """Heights 11 and 9 against 10 and 14.

    The best overlap is 10/11, which leaves 9/14. The least cost matches 9 with 10 and 11 with
    14: L1 distances 1 + 3 against 1 + 5.
    """
    gold = [LabelledBox("a", 0, 0, 100, 10), LabelledBox("a", 0, 0, 100, 14)]
    sizes = ImageSizes(100, 100, 100, 100)
    text = written([("a", [0, 0, 100, 11]), ("a", [0, 0, 100, 9])])
    greedy = vision_r1_reward(text, gold, sizes, matcher="greedy")
    assert greedy.overlaps == pytest.approx((10 / 11, 9 / 14))
    assert vision_r1_reward(text, gold, sizes).overlaps == pytest.approx((11 / 14, 9 / 10))


def test_a_list_that_was_cut_off_loses_its_form_and_keeps_its_boxes() -> None:
    found = vision_r1_reward(written(RIGHT)[:-1] + ', {"bbox', GOLD, SIZES)
    assert (found.format, found.recall, found.precision) == (0, 1, 1)


@pytest.mark.parametrize(
    ("text", "paper", "release"),
    [
        (written(RIGHT), 1, 1),
        ('[{"bbox_2d": [1, 2, 30.0, 4], "label": "unicorn"}]', 1, 1),
        ('[{"bbox_2d": [1, 2, 30.5, 4], "label": "cat"}]', 0, 1),
        ('[{"bbox_2d": [1, 2, 101, 4], "label": "cat"}]', 0, 1),
        ('[{"bbox_2d": [4, 2, 1, 4], "label": "cat"}]', 0, 1),
        ('[{"bbox_2d": [true, 2, 30, 4], "label": "cat"}]', 0, 1),
        ('[{"bbox_2d": [1, 2, 30, 4], "label": " "}]', 0, 1),
        ('[{"bbox_2d": [1, 2, 30, 4], "label": "cat", "score": 1}]', 0, 1),
        ('[{"bbox_2d": [1, 2, 30, 4]}]', 0, 1),
        ('[{"bbox_2d": [1, 2, 30], "label": "cat"}]', 0, 0),
        ('{"bbox_2d": [1, 2, 30], "label": "cat"}', 0, 1),
        ("7", 0, 1),
        ("cat", 0, 0),
    ],
)
def test_the_release_passes_forms_that_the_paper_does_not(
    text: str, paper: float, release: float
) -> None:
    assert vision_r1_reward(text, GOLD, SIZES).format == paper
    assert vision_r1_release_reward(text, GOLD, SIZES, IDS).format == release


def test_the_rules_tighten_at_their_share_of_the_training() -> None:
    assert [vision_r1_stage(step, 10) for step in (0, 4, 5, 9)] == [
        "beginning",
        "beginning",
        "advanced",
        "advanced",
    ]
    assert vision_r1_stage(9, 10, switch_at=1.0) == "beginning"
    with pytest.raises(ShapeError, match="step -1 of 10"):
        vision_r1_stage(-1, 10)


def test_broken_gold_data_is_refused() -> None:
    with pytest.raises(RecordError, match=r"gold box 0 .*outside the image"):
        vision_r1_reward("[]", [LabelledBox("cat", 0, 0, 300, 10)], SIZES)
    with pytest.raises(RecordError, match="gold label 'fox' is not in label_ids"):
        vision_r1_release_reward("[]", [LabelledBox("fox", 0, 0, 30, 10)], SIZES, IDS)
    with pytest.raises(RecordError, match="there is no gold box"):
        vision_r1_release_reward("[]", [], SIZES, IDS)
    with pytest.raises(ShapeError, match="input_width is 0"):
        vision_r1_reward("[]", GOLD, ImageSizes(200, 200, 0, 100))
