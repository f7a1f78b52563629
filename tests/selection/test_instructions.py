"""MAPL's rules for prompts, and the instructions that tell two responses apart."""

import pytest

from mmalign.errors import RecordError
from mmalign.selection.instructions import (
    Instruction,
    PromptContrast,
    contrast_prompts,
    distinguishing_instructions,
)

PROPERTIES = {"short": True, "json": False, "english": True}
SHORT, LONG = Instruction("short", True), Instruction("short", False)
JSON, NO_JSON = Instruction("json", True), Instruction("json", False)
ENGLISH = Instruction("english", True)


@pytest.mark.parametrize(
    ("preferred", "other", "rule_a", "rule_b"),
    [
        ([SHORT, NO_JSON], [SHORT, JSON], True, False),
        ([SHORT, JSON], [LONG, JSON], False, True),
        ([SHORT, ENGLISH], [LONG, JSON], True, True),
        ([LONG, ENGLISH], [SHORT, JSON], False, False),
        ([], [LONG], True, False),
        ([SHORT], [], False, True),
    ],
)
def test_rules_worked_by_hand(
    preferred: list[Instruction], other: list[Instruction], rule_a: bool, rule_b: bool
) -> None:
    """The response is short, in English and no JSON; an empty list is met in full."""
    contrast = contrast_prompts(PROPERTIES, preferred, other)
    assert contrast == PromptContrast(rule_a, rule_b)
    assert contrast.usable is (rule_a or rule_b)


@pytest.mark.parametrize("preferred", [[SHORT], [SHORT, NO_JSON], [SHORT, JSON], [LONG]])
@pytest.mark.parametrize("other", [[LONG], [SHORT, JSON], [LONG, JSON], [SHORT]])
def test_neither_rule_holds_both_ways(
    preferred: list[Instruction], other: list[Instruction]
) -> None:
    there = contrast_prompts(PROPERTIES, preferred, other)
    back = contrast_prompts(PROPERTIES, other, preferred)
    assert not (there.rule_a and back.rule_a)
    assert not (there.rule_b and back.rule_b)


@pytest.mark.parametrize("instructions", [[SHORT], [LONG], [SHORT, JSON], []])
def test_equal_prompts_make_no_pair(instructions: list[Instruction]) -> None:
    assert not contrast_prompts(PROPERTIES, instructions, instructions).usable


def test_a_property_that_was_not_checked_is_named() -> None:
    with pytest.raises(RecordError, match="property 'loud', which was not checked"):
        contrast_prompts(PROPERTIES, [Instruction("loud", True)], [SHORT])


def test_distinguishing_instructions_are_met_by_the_chosen_and_failed_by_the_rejected() -> None:
    chosen = {"short": True, "json": False, "english": True}
    rejected = {"english": True, "short": False, "json": True}
    found = distinguishing_instructions(chosen, rejected)
    assert found == [NO_JSON, SHORT]
    for instruction in found:
        assert instruction.met_by(chosen)
        assert not instruction.met_by(rejected)


def test_responses_alike_in_all_properties_give_no_instruction() -> None:
    assert distinguishing_instructions(PROPERTIES, dict(PROPERTIES)) == []


def test_responses_checked_for_different_properties_are_refused() -> None:
    with pytest.raises(RecordError, match=r"properties \['json'\] were checked on one"):
        distinguishing_instructions({"short": True, "json": True}, {"short": False})
