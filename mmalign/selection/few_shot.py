"""FSPO's packing: a few preferences of a user in the prompt, a further one to learn from."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from mmalign.errors import RecordError

__all__ = ["FewShotRecord", "pack_few_shot"]


class FewShotRecord(NamedTuple):
    """One training record, as places of the user's rows."""

    user: Hashable
    shots: tuple[int, ...]
    """Rows that stand in the prompt, in order."""
    query: int
    """Row whose question is asked; never among the shots."""
    shots_chosen_side: tuple[int, ...]
    """Which response of each shot is preferred: 0 the first, 1 the second."""
    query_chosen_side: int
    """The same for the query."""


def pack_few_shot(
    labels: Sequence[int],
    passes: Sequence[Sequence[int]],
    *,
    user: Hashable,
    num_shots: int,
    waste_row: bool = False,
) -> list[FewShotRecord]:
    """Cut a user's shuffled rows into blocks of some shots and one query.

    Args:
        labels: Which response of each row the user prefers, 0 or 1. Rows of one user only:
            training and test users are to be kept apart.
        passes: Shuffles of the row numbers; the released loader takes 2 * (num_shots + 1) of
            them. Shuffled by the caller, so that packing is a pure function.
        user: Name of the user, for the records.
        num_shots: N, preferences in the prompt, >= 0; 4 or 8 in the paper.
        waste_row: Blocks of N + 2 rows whose last is not used, as in the released loader, rather
            than of N + 1.

    Returns:
        The records of each pass in order: the first N rows of a block are shots, the next is the
        query. A last block that is not full is dropped, so a user with too few rows gives none.

    Raises:
        RecordError: A label is neither 0 nor 1, a pass is not a shuffle of all rows, or num_shots
            is negative.

    Source: FSPO (Singh et al., 2025), its loader.
    """
    if num_shots < 0:
        raise RecordError(f"user {user!r}: num_shots is {num_shots}, expected a number from 0 on")
    for row, label in enumerate(labels):
        if label not in (0, 1):
            raise RecordError(f"user {user!r}, row {row}: label {label}, expected 0 or 1; drop it")
    size = num_shots + 1 + waste_row
    records = []
    for number, rows in enumerate(passes):
        if sorted(rows) != list(range(len(labels))):
            raise RecordError(
                f"user {user!r}: pass {number} is not a shuffle of its {len(labels)} rows"
            )
        for start in range(0, len(rows) - size + 1, size):
            shots = tuple(rows[start : start + num_shots])
            query = rows[start + num_shots]
            records.append(
                FewShotRecord(
                    user, shots, query, tuple(labels[row] for row in shots), labels[query]
                )
            )
    return records
