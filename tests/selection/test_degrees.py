"""Graded copies of a response: which phrases go, and what the text becomes."""

import math
from itertools import pairwise

import pytest

from mmalign.errors import RecordError
from mmalign.selection.degrees import remove_spans, removed_phrases


def test_removed_phrases_worked_by_hand() -> None:
    """Five phrases, three degrees: floor(5/3) = 1, floor(10/3) = 3, then all 5."""
    found = removed_phrases([0.4, 0.1, 8.0, 9.0, 6.0], num_degrees=3)
    assert found == [[], [3], [2, 3, 4], [0, 1, 2, 3, 4]]


def test_of_equal_scores_the_earlier_phrase_goes_first() -> None:
    assert removed_phrases([1.0, 2.0, 2.0, 1.0], num_degrees=4) == [
        [],
        [1],
        [1, 2],
        [0, 1, 2],
        [0, 1, 2, 3],
    ]


@pytest.mark.parametrize("num_degrees", [1, 2, 3, 7])
def test_degrees_are_nested_from_nothing_to_everything(num_degrees: int) -> None:
    found = removed_phrases([3.0, 1.0, 2.0, 5.0, 4.0, 0.0, 7.0], num_degrees=num_degrees)
    assert len(found) == num_degrees + 1
    assert found[0] == []
    assert found[-1] == list(range(7))
    assert all(set(less) <= set(more) for less, more in pairwise(found))


def test_removing_spans_leaves_single_spaces_and_marks() -> None:
    assert remove_spans("A red car turns left.", [(2, 5), (16, 20)]) == "A car turns ."
    assert remove_spans("A red car.", []) == "A red car."


def test_wrong_input_is_refused() -> None:
    with pytest.raises(RecordError, match="3 degrees for 2 key phrases"):
        removed_phrases([1.0, 2.0], num_degrees=3)
    with pytest.raises(RecordError, match="0 degrees"):
        removed_phrases([1.0], num_degrees=0)
    with pytest.raises(RecordError, match="no score"):
        removed_phrases([1.0, math.nan], num_degrees=1)
    with pytest.raises(RecordError, match="span 2-4 does not follow 3"):
        remove_spans("abcdef", [(0, 3), (2, 4)])
    with pytest.raises(RecordError, match="nothing is left"):
        remove_spans(" ab ", [(1, 3)])
