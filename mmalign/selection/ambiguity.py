"""ADPO's rule: the vaguest of several judged answers becomes the rejected one."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mmalign.errors import RecordError

__all__ = ["AmbiguityChoice", "AmbiguityKind", "JudgedAnswer", "choose_ambiguous"]

AmbiguityKind = Literal["wrong", "useless", "uncommitted"]


class JudgedAnswer(NamedTuple):
    """How many sentences of an answer a judge put into each class."""

    grounded: int
    """State what the clues support."""
    wrong: int
    """Contradict them."""
    useless: int
    """Add nothing that answers the question: mood, hedges, the question restated."""
    answered: bool
    """Whether the answer commits itself."""

    @property
    def ambiguity(self) -> float:
        """Share of wrong and useless sentences, in [0, 1]; 1 for an answer without sentences."""
        total = self.grounded + self.wrong + self.useless
        return (self.wrong + self.useless) / total if total else 1.0

    @property
    def ambiguous(self) -> bool:
        """Whether it has a wrong or a useless sentence, has none at all, or does not commit."""
        return self.ambiguity > 0 or not self.answered

    @property
    def kind(self) -> AmbiguityKind | None:
        """What makes it ambiguous most of all; None where nothing does.

        `wrong`: no fewer wrong sentences than useless ones; else `uncommitted`: it does not
        commit itself; else `useless`.
        """
        if self.wrong and self.wrong >= self.useless:
            return "wrong"
        if not self.answered:
            return "uncommitted"
        return "useless" if self.useless else None


class AmbiguityChoice(NamedTuple):
    """What becomes of one question."""

    rejected: int | None
    """Index of the answer to reject; None where none is ambiguous enough."""
    kept: bool
    """Whether the question gives a pair."""


def choose_ambiguous(
    answers: Sequence[JudgedAnswer], *, has_chosen: bool, threshold: float = 0.5
) -> AmbiguityChoice:
    """Reject the most ambiguous answer to a question, if one is ambiguous enough.

    The rule is a reconstruction: the paper's own was not published with its code.

    Args:
        answers: The sampled answers as judged, in the order of sampling.
        has_chosen: Whether there is a chosen text that was judged free of ambiguity.
        threshold: Smallest ambiguity of a rejected answer, in [0, 1]. An answer of grounded
            sentences that does not commit itself has 0.

    Returns:
        The answer of largest ambiguity; on ties more useless sentences, then the earlier one.

    Raises:
        RecordError: A number of sentences is negative, or the threshold is not in [0, 1].

    Source: ADPO of CAT (Ye et al., 2024).
    """
    if not 0 <= threshold <= 1:
        raise RecordError(f"threshold is {threshold}, expected a number in [0, 1]")
    for place, answer in enumerate(answers):
        if min(answer.grounded, answer.wrong, answer.useless) < 0:
            raise RecordError(f"answer {place} has a negative number of sentences: {answer}")
    candidates = [
        place
        for place, answer in enumerate(answers)
        if answer.ambiguous and answer.ambiguity >= threshold
    ]
    if not candidates:
        return AmbiguityChoice(None, kept=False)
    # max keeps the first of equals
    rejected = max(candidates, key=lambda i: (answers[i].ambiguity, answers[i].useless))
    return AmbiguityChoice(rejected, kept=has_chosen)
