"""Boxes in completions: reading, overlaps, matching."""

import itertools
import json

import numpy as np
import pytest

from mmalign.errors import RecordError, ShapeError
from mmalign.rewards.boxes import (
    LabelledBox,
    box_distances,
    box_overlaps,
    decode_json,
    match_boxes,
    parse_boxes,
    require_gold_boxes,
    scale_box,
)


def box(*corners: float, label: str = "cat") -> LabelledBox:
    x1, y1, x2, y2 = corners
    return LabelledBox(label, x1, y1, x2, y2)


def written(*boxes: LabelledBox) -> str:
    return json.dumps([{"bbox_2d": list(map(int, b.corners)), "label": b.label} for b in boxes])


def random_boxes(number: int, seed: int) -> list[LabelledBox]:
    source = np.random.default_rng(seed)
    starts, sides = source.uniform(0, 80, (number, 2)), source.uniform(5, 60, (number, 2))
    return [box(*start, *(start + side)) for start, side in zip(starts, sides, strict=True)]


def test_overlaps_worked_by_hand() -> None:
    """Two squares of area 4 share 1 of 7 in a hull of 9: IoU 1/7, GIoU 1/7 - 2/9.

    The last has 6 of a hull of 18 covered and nothing shared: 0 - 12/18.
    """
    found = box_overlaps([box(0, 0, 2, 2)], [box(1, 1, 3, 3), box(0, 0, 2, 2), box(8, 0, 9, 2)])
    assert found.ious[0] == pytest.approx([1 / 7, 1, 0])
    assert found.gious[0] == pytest.approx([1 / 7 - 2 / 9, 1, -12 / 18])


def test_distances_worked_by_hand() -> None:
    assert box_distances([box(0, 0, 2, 2)], [box(1, 0, 3, 5)]).tolist() == [[5.0]]


def test_giou_never_exceeds_iou() -> None:
    found = box_overlaps(random_boxes(20, 0), random_boxes(20, 1))
    assert (found.gious <= found.ious + 1e-12).all()
    assert (found.gious > -1).all()
    assert (found.ious >= 0).all()
    assert (found.ious > 0).any()


@pytest.mark.parametrize(("num_rows", "num_cols"), [(3, 3), (2, 5), (5, 4), (5, 5)])
def test_the_assignment_costs_as_little_as_any(num_rows: int, num_cols: int) -> None:
    costs = np.random.default_rng(num_rows * 10 + num_cols).normal(size=(num_rows, num_cols))
    found = match_boxes(costs)
    total = costs[list(found.rows), list(found.cols)].sum()
    if num_rows <= num_cols:
        choices = itertools.permutations(range(num_cols), num_rows)
        least = min(sum(costs[r, c] for r, c in enumerate(choice)) for choice in choices)
    else:
        choices = itertools.permutations(range(num_rows), num_cols)
        least = min(sum(costs[r, c] for c, r in enumerate(choice)) for choice in choices)
    assert total == pytest.approx(least)
    assert len(found.rows) == min(num_rows, num_cols)
    assert list(found.rows) == sorted(set(found.rows))


def test_greedy_takes_the_best_pair_first_even_where_the_total_suffers() -> None:
    costs = np.array([[0.0, 1.0], [1.0, 9.0]])
    assert match_boxes(costs, matcher="greedy") == ((0, 1), (0, 1))
    assert match_boxes(costs) == ((0, 1), (1, 0))
    ties = np.zeros((2, 3))
    assert match_boxes(ties, matcher="greedy") == ((0, 1), (0, 1))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_matches_nothing(shape: tuple[int, int]) -> None:
    assert match_boxes(np.zeros(shape)) == ((), ())
    assert match_boxes(np.zeros(shape), matcher="greedy") == ((), ())


def test_boxes_are_read_with_and_without_a_fence() -> None:
    boxes = (box(1, 2, 3, 4), box(5, 6, 70, 80, label="dog"))
    text = written(*boxes)
    for completion in (text, f"```json\n{text}\n```", f"  ```json\n{text}\n```\nDone."):
        assert parse_boxes(completion) == boxes
        assert decode_json(completion).valid


def test_numbers_are_cut_to_whole_ones_and_boxes_without_area_left_out() -> None:
    text = (
        '[{"bbox_2d": [1.9, 2.1, "30", 40.7], "label": "a"}, {"bbox_2d": [5, 5, 5, 9]},'
        ' {"bbox_2d": [9, 1, 4, 5]}, {"bbox_2d": [1, 2, 3]}, {"bbox_2d": "1 2 3 4"},'
        ' {"bbox_2d": [1, 2, 3, 4], "label": 7}, 5, null]'
    )
    assert parse_boxes(text) == (box(1, 2, 30, 40, label="a"), box(1, 2, 3, 4, label=""))


def test_a_list_that_was_cut_off_keeps_its_complete_boxes() -> None:
    boxes = (box(1, 2, 3, 4), box(5, 6, 1200, 1300, label="a dog"))
    cut = written(*boxes)[:-1] + ', {"bbox_2d": [10, 20, 30'
    assert not decode_json(cut).valid
    assert parse_boxes(cut) == boxes
    assert parse_boxes(cut, largest_recovered=1000) == boxes[:1]
    assert parse_boxes(written(*boxes), largest_recovered=1000) == boxes


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "I see nothing.",
        "[]",
        "{}",
        "[" * 100_000,
        '[{"bbox_2d": [NaN, Infinity, 1, 2], "label": "a"}]',
        '[{"bbox_2d": [1, 1, 1e300, 2], "label": "a"}]',
        '[{"bbox_2d": [1, 1, ' + "9" * 5000 + ', 2], "label": "a"}]',
        '{"bbox_2d": [1, 1, ' + "9" * 5000 + ', 2], "label": "a"}]',
        '[{"bbox_2d": [[1], {}, null, 2], "label": "a"}]',
        "```json",
    ],
)
def test_an_unreadable_completion_has_no_boxes(completion: str) -> None:
    assert parse_boxes(completion) == ()


def test_boxes_are_scaled_by_axis() -> None:
    assert scale_box(box(1, 2, 3, 4), x_factor=10, y_factor=100) == box(10, 200, 30, 400)


def test_broken_annotations_are_refused() -> None:
    size = {"width": 100, "height": 50}
    require_gold_boxes([box(0, 0, 100, 50)], **size)
    with pytest.raises(RecordError, match=r"gold box 0 \('cat'\).*expected x1 < x2.*corners"):
        require_gold_boxes([box(30, 10, 20, 30)], **size)
    with pytest.raises(RecordError, match=r"gold box 1 .*outside the image of 100 x 50"):
        require_gold_boxes([box(0, 0, 5, 5), box(0, 0, 101, 5)], **size)
    with pytest.raises(RecordError, match="look like shares of its size"):
        require_gold_boxes([box(0.1, 0.2, 0.3, 0.4)], **size)


def test_costs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"costs \[1, 2\]: expected a finite matrix"):
        match_boxes(np.array([[0.0, np.nan]]))
