"""Pairs for two aims: both labels are followed, no record is lost."""

import pytest

from mmalign.errors import RecordError
from mmalign.selection.candidates import ChosenRejected
from mmalign.selection.table import SELECTION_RULES
from mmalign.selection.two_metrics import AnswerLabels, two_metric_pairs

LABELS = [
    AnswerLabels(1, 0, is_response_0_safe=True, is_response_1_safe=False),
    AnswerLabels(0, 0, is_response_0_safe=False, is_response_1_safe=False),
]


def test_each_aim_prefers_its_own_response() -> None:
    pairs = two_metric_pairs(LABELS)
    assert pairs.helpful == (ChosenRejected(1, 0), ChosenRejected(0, 1))
    assert pairs.safety == (ChosenRejected(0, 1), ChosenRejected(0, 1))


def test_a_record_with_two_unsafe_responses_is_kept() -> None:
    pairs = two_metric_pairs(LABELS)
    assert len(pairs.safety) == 2
    assert pairs.safe_flags == (True, False, False, False)


def test_an_id_that_names_no_response_is_refused() -> None:
    with pytest.raises(RecordError, match="record 1: safer_response_id is 2, expected 0 or 1"):
        two_metric_pairs([LABELS[0], LABELS[1]._replace(safer_response_id=2)])
    with pytest.raises(RecordError, match="record 0: better_response_id is -1"):
        two_metric_pairs([LABELS[0]._replace(better_response_id=-1)])


def test_the_table_tells_what_the_rules_do() -> None:
    assert SELECTION_RULES["two_metric_pairs"].about.startswith("One pair per record and aim")
