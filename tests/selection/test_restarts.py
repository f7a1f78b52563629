"""Where solutions are restarted, and how hot."""

import pytest

from mmalign.errors import RecordError, ShapeError
from mmalign.selection.restarts import BlockType, branch_points, restart_temperatures

SOLUTION: list[BlockType] = ["text", "code", "execution", "text", "code", "execution", "text"]


def test_worked_by_hand() -> None:
    """Of blocks 0 to 4, which are not among the last two, 1 and 4 are code: 0, 2 and 3 are left."""
    assert branch_points(SOLUTION) == [0, 1, 3, 4]


def test_no_point_follows_code_or_lies_in_the_last_two_blocks() -> None:
    for kept in branch_points(SOLUTION)[1:]:
        assert SOLUTION[kept - 1] != "code"
        assert kept <= len(SOLUTION) - 2


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_short_solutions_can_only_be_restarted_from_the_question(num_blocks: int) -> None:
    assert branch_points(SOLUTION[:num_blocks]) == [0]


def test_an_empty_solution_and_an_unknown_block_are_refused() -> None:
    with pytest.raises(RecordError, match="has no block"):
        branch_points([])
    with pytest.raises(RecordError, match="block 1 has the type 'image', expected one of text"):
        branch_points(["text", "image"])  # type: ignore[list-item]  # what is refused


@pytest.mark.parametrize("rise", [0.05, 0.1, 0.0])
def test_temperatures_start_at_the_start_never_fall_and_never_pass_the_cap(rise: float) -> None:
    temperatures = restart_temperatures(12, rise=rise)
    assert temperatures[0] == 1.1
    assert temperatures == sorted(temperatures)
    assert max(temperatures) <= 1.4


def test_the_released_rise_reaches_the_cap_at_the_fourth_block_and_the_papers_at_the_seventh() -> (
    None
):
    assert restart_temperatures(8, rise=0.1).index(1.4) == 3
    assert restart_temperatures(8).index(1.4) == 6


def test_no_blocks_need_no_temperature() -> None:
    assert restart_temperatures(0) == []


def test_temperatures_out_of_range_are_refused() -> None:
    for settings in ({"start": 1.5}, {"rise": -0.1}, {"start": float("nan")}):
        with pytest.raises(ShapeError, match="expected num_steps >= 0, rise >= 0 and 0 < start"):
            restart_temperatures(3, **settings)
