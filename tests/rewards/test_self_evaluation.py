"""Rewards of a step of a tool call: gold's words and a judge's letters."""

import math

import pytest

from mmalign.errors import RecordError
from mmalign.rewards.self_evaluation import fast_step_reward, self_evaluation_reward, word_overlap

GOLD = '[get_weather( city= "Paris" )]'


def test_letters_worked_by_hand() -> None:
    """(0.5 + 0.1 * 0.2 - 0.2 - 2 * 0.1) / 4 = 0.03."""
    found = self_evaluation_reward({"A": 0.5, "B": 0.2, "C": 0.2, "D": 0.1})
    assert found.value == pytest.approx(0.03, rel=1e-12)
    assert found.note == ""


def test_letters_lie_between_poor_and_excellent() -> None:
    values = {letter: self_evaluation_reward({letter: 1.0}).value for letter in "ABCD"}
    assert values == {"A": 0.25, "B": 0.025, "C": -0.25, "D": -0.5}


def test_renormalising_takes_out_what_is_no_letter() -> None:
    halves = {"A": 0.25, "D": 0.25}
    whole = {"A": 0.5, "D": 0.5}
    assert self_evaluation_reward(halves).value == self_evaluation_reward(whole).value / 2
    assert self_evaluation_reward(halves, renormalise=True) == self_evaluation_reward(whole)


@pytest.mark.parametrize("renormalise", [False, True])
def test_a_judge_without_a_letter_earns_0_and_a_note(renormalise: bool) -> None:
    found = self_evaluation_reward({"A": 0.0}, renormalise=renormalise)
    assert found.value == 0
    assert "none of the letters" in found.note


@pytest.mark.parametrize("probs", [{"A": -0.1}, {"A": 0.8, "B": 0.8}, {"E": 0.1}, {"A": math.nan}])
def test_what_is_no_distribution_over_the_letters_is_refused(probs: dict[str, float]) -> None:
    with pytest.raises(RecordError, match="expected probabilities of A, B, C and D"):
        self_evaluation_reward(probs)


def test_gold_itself_earns_most() -> None:
    assert fast_step_reward(GOLD, GOLD).value == pytest.approx(0.6, rel=1e-12)


def test_step_worked_by_hand() -> None:
    """One of two words is gold's, and only gold ends a call: -0.1 + 1/2 - 1/2."""
    assert fast_step_reward("city= London", GOLD).value == pytest.approx(-0.1, rel=1e-12)


def test_a_step_without_any_of_golds_words_earns_least() -> None:
    assert fast_step_reward("hello", GOLD).value == pytest.approx(-0.6, rel=1e-12)


@pytest.mark.parametrize("gold", [None, "", "  "])
def test_without_gold_only_the_bracket_counts(gold: str | None) -> None:
    assert fast_step_reward("call(x)", gold).value == 0.1
    assert fast_step_reward("prose", gold).value == -0.1


def test_blank_text_earns_0_and_a_note() -> None:
    assert fast_step_reward(" \n", GOLD)[:2] == (0.0, "blank text")


def test_overlap_is_of_the_shorter_text_and_of_sets() -> None:
    assert word_overlap("a b c d", "b x") == 0.5
    assert word_overlap("a a b", "b a") == 1.0
    assert word_overlap("b x", "a b c d") == 0.5


def test_a_text_without_words_overlaps_with_none() -> None:
    assert word_overlap("", "a") == word_overlap("a", " ") == word_overlap("", "") == 0.0
