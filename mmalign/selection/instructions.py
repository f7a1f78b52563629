"""MAPL's rules: which prompts a response tells apart, and what only one of two responses meets."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmalign.errors import RecordError

__all__ = [
    "Instruction",
    "PromptContrast",
    "contrast_prompts",
    "distinguishing_instructions",
]


class Instruction(NamedTuple):
    """A demand that can be checked on the text of a response."""

    property_id: str
    demanded: bool
    """Whether the response must have the property, or must not."""

    def met_by(self, properties: Mapping[str, bool]) -> bool:
        """Whether a response with these properties does as told.

        Raises:
            RecordError: The property was not checked.
        """
        if self.property_id not in properties:
            raise RecordError(
                f"the instruction asks for property {self.property_id!r}, which was not checked; "
                f"checked are {sorted(properties)}"
            )
        return properties[self.property_id] == self.demanded


class PromptContrast(NamedTuple):
    """Why one prompt fits a response better than another; either reason is enough."""

    rule_a: bool
    """The response meets all of the first prompt's instructions, and not all of the second's."""
    rule_b: bool
    """The response meets at least one of the first prompt's instructions, and none of the
    second's."""

    @property
    def usable(self) -> bool:
        """Whether the two prompts make a pair."""
        return self.rule_a or self.rule_b


def contrast_prompts(
    properties: Mapping[str, bool],
    preferred: Sequence[Instruction],
    other: Sequence[Instruction],
) -> PromptContrast:
    """Whether one response prefers a prompt with these instructions over one with others.

    Args:
        properties: What was checked on the response.
        preferred: Instructions of the prompt that it should fit; an empty list is met in full.
        other: Instructions of the prompt that it should not fit.

    Returns:
        Both rules; neither holds for lists that are equal. Rule A cannot hold both ways, nor
        can rule B.

    Raises:
        RecordError: An instruction asks for a property that was not checked.

    Source: MAPL (Sun et al., 2025), intra-sample pairs.
    """
    met = [instruction.met_by(properties) for instruction in preferred]
    other_met = [instruction.met_by(properties) for instruction in other]
    return PromptContrast(
        rule_a=all(met) and not all(other_met), rule_b=any(met) and not any(other_met)
    )


def distinguishing_instructions(
    chosen_properties: Mapping[str, bool], rejected_properties: Mapping[str, bool]
) -> list[Instruction]:
    """The instructions that the chosen response meets and the rejected one fails.

    Added to the prompt, they should widen the margin of the pair.

    Args:
        chosen_properties: What was checked on the chosen response.
        rejected_properties: The same properties of the rejected response.

    Returns:
        One for each property in which they differ, in the order of the ids; a property that only
        the rejected response has is forbidden. Empty where nothing differs: no pair.

    Raises:
        RecordError: Different properties were checked on the two.

    Source: MAPL (Sun et al., 2025), inter-sample pairs.
    """
    if chosen_properties.keys() != rejected_properties.keys():
        odd = sorted(chosen_properties.keys() ^ rejected_properties.keys())
        raise RecordError(f"properties {odd} were checked on one of the two responses only")
    return [
        Instruction(property_id, chosen_properties[property_id])
        for property_id in sorted(chosen_properties)
        if chosen_properties[property_id] != rejected_properties[property_id]
    ]
