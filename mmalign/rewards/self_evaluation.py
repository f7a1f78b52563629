"""Rewards of a tool call's fragment: words it shares with gold, and a judge's four letters."""

import math
from collections.abc import Mapping
from types import MappingProxyType

from mmalign.errors import RecordError
from mmalign.rewards.reward import Reward

__all__ = ["fast_step_reward", "self_evaluation_reward", "word_overlap"]

LETTER_REWARDS: Mapping[str, float] = MappingProxyType({"A": 1.0, "B": 0.1, "C": -1.0, "D": -2.0})
"""Excellent, acceptable, fair, poor."""


def self_evaluation_reward(
    letter_probs: Mapping[str, float], *, renormalise: bool = False
) -> Reward:
    """Reward a response by the letter with which the model judges it against gold.

        reward = (1.0 * A + 0.1 * B - 1.0 * C - 2.0 * D) / 4

    Args:
        letter_probs: Probability of each of A, B, C and D right after the prompt; a letter that
            is missing has none. Read the one position only: sums over several exceed 1.
        renormalise: Divide by the four letters' sum, so that a judge that says something else
            is not taken for one that finds the response middling.

    Returns:
        In [-0.5, 0.25]; 0 and a note where the judge gave no letter at all.

    Raises:
        RecordError: A key is no letter, or the numbers are no probabilities.

    Source: iTool (Zeng et al., 2025), letters' values from its code; renormalise is a
        reconstruction.
    """
    total = math.fsum(letter_probs.values())
    if letter_probs.keys() - LETTER_REWARDS.keys() or not (
        min(letter_probs.values(), default=0.0) >= 0 and total <= 1 + 1e-6
    ):
        raise RecordError(
            f"letter_probs is {dict(letter_probs)}, expected probabilities of A, B, C and D"
        )
    if total == 0:
        return Reward(0.0, note="the judge gave none of the letters A, B, C and D")
    mean = math.fsum(LETTER_REWARDS[letter] * prob for letter, prob in letter_probs.items()) / 4
    return Reward(mean / total if renormalise else mean)


def fast_step_reward(text: str, gold: str | None) -> Reward:
    """Reward a step without a model: does it end a call where gold does, does it use gold's words.

        with gold:    +-0.1 + word overlap - 0.5, plus where both or neither hold ")]"
        without gold: +-0.1, plus where the text holds ")"

    Args:
        text: The step.
        gold: The right answer; None or blank where there is none.

    Returns:
        In [-0.6, 0.6], 0.6 for gold itself; 0 and a note for blank text.

    Source: iTool (Zeng et al., 2025), from its code.
    """
    if not text.strip():
        return Reward(0.0, note="blank text")
    if gold is None or not gold.strip():
        return Reward(0.1 if ")" in text else -0.1)
    ends_alike = (")]" in text) == (")]" in gold)
    return Reward((0.1 if ends_alike else -0.1) + word_overlap(text, gold) - 0.5)


def word_overlap(one: str, other: str) -> float:
    """The share of the shorter text's words that the other holds too.

        overlap = |words of both| / min(|words of one|, |words of the other|)

    Words are parted by white space, their order and number do not count.

    Returns:
        In [0, 1]; 0 where a text has no word.

    Source: iTool (Zeng et al., 2025).
    """
    words, other_words = set(one.split()), set(other.split())
    return len(words & other_words) / max(1, min(len(words), len(other_words)))
