"""FSPO's packing of a user's rows."""

from typing import Any

import pytest

from mmalign.errors import RecordError
from mmalign.selection.few_shot import FewShotRecord, pack_few_shot

LABELS = [0, 1, 1, 0, 1, 0, 0]
SHUFFLE = [3, 0, 6, 1, 5, 2, 4]


def test_worked_by_hand() -> None:
    """Blocks of three: rows 3, 0 then 6; rows 1, 5 then 2; row 4 is left over."""
    assert pack_few_shot(LABELS, [SHUFFLE], user="ann", num_shots=2) == [
        FewShotRecord("ann", (3, 0), 6, (0, 0), 0),
        FewShotRecord("ann", (1, 5), 2, (1, 0), 1),
    ]


def test_a_wasted_row_stands_in_no_record() -> None:
    """Blocks of four: rows 3, 0 then 6, and 1 unused; three rows are left over."""
    assert pack_few_shot(LABELS, [SHUFFLE], user="ann", num_shots=2, waste_row=True) == [
        FewShotRecord("ann", (3, 0), 6, (0, 0), 0)
    ]


@pytest.mark.parametrize("num_shots", [0, 1, 3, 6, 7])
@pytest.mark.parametrize("waste_row", [False, True])
def test_each_pass_gives_as_many_records_as_it_has_full_blocks(
    num_shots: int, waste_row: bool
) -> None:
    passes = [SHUFFLE, SHUFFLE[::-1]]
    records = pack_few_shot(LABELS, passes, user=1, num_shots=num_shots, waste_row=waste_row)
    assert len(records) == 2 * (len(LABELS) // (num_shots + 1 + waste_row))
    for record in records:
        assert len(set(record.shots)) == num_shots
        assert record.query not in record.shots


def test_swapped_labels_swap_the_sides_and_nothing_else() -> None:
    swapped = [1 - label for label in LABELS]
    there = pack_few_shot(LABELS, [SHUFFLE], user="ann", num_shots=3)
    back = pack_few_shot(swapped, [SHUFFLE], user="ann", num_shots=3)
    for one, other in zip(there, back, strict=True):
        assert (one.shots, one.query) == (other.shots, other.query)
        assert one.query_chosen_side == 1 - other.query_chosen_side
        assert one.shots_chosen_side == tuple(1 - side for side in other.shots_chosen_side)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [0, 2, 1]}, "user 'ann', row 1: label 2, expected 0 or 1"),
        ({"passes": [[0, 1, 2], [0, 1, 1]]}, "user 'ann': pass 1 is not a shuffle of its 3 rows"),
        ({"num_shots": -1}, "user 'ann': num_shots is -1"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_user(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"labels": [0, 1, 1], "passes": [[2, 0, 1]], "num_shots": 1}
    with pytest.raises(RecordError, match=message):
        pack_few_shot(**(given | changed), user="ann")
