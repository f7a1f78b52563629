"""Pairs for two aims out of records that carry a label for each."""

from collections.abc import Sequence
from typing import NamedTuple

from mmalign.errors import RecordError
from mmalign.selection.candidates import ChosenRejected

__all__ = ["AnswerLabels", "TwoMetricPairs", "two_metric_pairs"]


class AnswerLabels(NamedTuple):
    """What annotators say about the two responses of a prompt, as PKU-SafeRLHF names it."""

    better_response_id: int
    """The more helpful response, 0 or 1."""
    safer_response_id: int
    is_response_0_safe: bool
    is_response_1_safe: bool


class TwoMetricPairs(NamedTuple):
    """Preference data for either step, in the order of the records."""

    helpful: tuple[ChosenRejected, ...]
    safety: tuple[ChosenRejected, ...]
    safe_flags: tuple[bool, ...]
    """Labels of the unpaired safety rows: both responses of the first record, and so on."""


def two_metric_pairs(labels: Sequence[AnswerLabels]) -> TwoMetricPairs:
    """One pair per record and aim: the more helpful and the safer response as chosen.

    No record is left out, even where both responses are safe or both unsafe.

    Args:
        labels: One per record.

    Raises:
        RecordError: An id is neither 0 nor 1; with record and field.

    Source: SACPO (Wachi et al., 2024) and its released code.
    """
    return TwoMetricPairs(
        helpful=_pairs("better_response_id", [label.better_response_id for label in labels]),
        safety=_pairs("safer_response_id", [label.safer_response_id for label in labels]),
        safe_flags=tuple(
            flag
            for label in labels
            for flag in (label.is_response_0_safe, label.is_response_1_safe)
        ),
    )


def _pairs(field: str, preferred: Sequence[int]) -> tuple[ChosenRejected, ...]:
    for place, response in enumerate(preferred):
        if response not in (0, 1):
            raise RecordError(f"record {place}: {field} is {response}, expected 0 or 1")
    return tuple(ChosenRejected(chosen=response, rejected=1 - response) for response in preferred)
