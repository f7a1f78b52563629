"""ADPO's rule for the rejected answer."""

import pytest

from mmalign.errors import RecordError
from mmalign.selection.ambiguity import AmbiguityChoice, JudgedAnswer, choose_ambiguous

GROUNDED = JudgedAnswer(grounded=2, wrong=0, useless=0, answered=True)
EMPTY = JudgedAnswer(grounded=0, wrong=0, useless=0, answered=True)
HALF_WRONG = JudgedAnswer(grounded=1, wrong=1, useless=0, answered=True)
HALF_USELESS = JudgedAnswer(grounded=1, wrong=0, useless=1, answered=False)
UNCOMMITTED = JudgedAnswer(grounded=3, wrong=0, useless=0, answered=False)
VAGUE = JudgedAnswer(grounded=1, wrong=1, useless=2, answered=True)


def test_worked_by_hand() -> None:
    """(1 + 2) / 4 = 3/4 beats 1/2."""
    assert VAGUE.ambiguity == 0.75
    choice = choose_ambiguous([GROUNDED, HALF_WRONG, VAGUE], has_chosen=True)
    assert choice == AmbiguityChoice(rejected=2, kept=True)


def test_equal_ambiguity_goes_to_more_useless_sentences_then_to_the_earlier_answer() -> None:
    assert choose_ambiguous([HALF_WRONG, HALF_USELESS], has_chosen=True).rejected == 1
    assert choose_ambiguous([GROUNDED, HALF_USELESS, HALF_USELESS], has_chosen=True).rejected == 1


def test_a_grounded_answer_is_never_rejected_and_an_empty_one_always_qualifies() -> None:
    assert choose_ambiguous([GROUNDED], has_chosen=True, threshold=0.0).rejected is None
    assert choose_ambiguous([GROUNDED, EMPTY], has_chosen=True, threshold=1.0).rejected == 1


def test_an_uncommitted_answer_of_grounded_sentences_is_ambiguous_to_a_degree_of_0() -> None:
    assert UNCOMMITTED.ambiguous
    assert UNCOMMITTED.ambiguity == 0
    assert choose_ambiguous([UNCOMMITTED], has_chosen=True).rejected is None


def test_without_a_chosen_text_or_a_candidate_there_is_no_pair() -> None:
    assert choose_ambiguous([VAGUE], has_chosen=False) == AmbiguityChoice(0, kept=False)
    assert choose_ambiguous([GROUNDED], has_chosen=True) == AmbiguityChoice(None, kept=False)
    assert choose_ambiguous([], has_chosen=True) == AmbiguityChoice(None, kept=False)


def test_answers_without_ties_may_come_in_any_order() -> None:
    answers = [HALF_WRONG, GROUNDED, VAGUE]
    for shift in range(3):
        order = answers[shift:] + answers[:shift]
        rejected = choose_ambiguous(order, has_chosen=True).rejected
        assert rejected is not None
        assert order[rejected] is VAGUE


def test_negative_counts_and_thresholds_out_of_range_are_refused() -> None:
    with pytest.raises(RecordError, match="answer 1 has a negative number of sentences"):
        choose_ambiguous([GROUNDED, GROUNDED._replace(wrong=-1)], has_chosen=True)
    with pytest.raises(RecordError, match=r"threshold is 1\.5"):
        choose_ambiguous([GROUNDED], has_chosen=True, threshold=1.5)
