"""The rewards that a recipe names: those of the spec, told what a rollout did."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from mmalign.records import JsonDict
from mmalign.rewards.contract import Episode, RewardFunction, reward
from mmalign.rewards.detection import vision_r1
from mmalign.rewards.overlong import overlong_penalty
from mmalign.rewards.question_answering import (
    answer_f1,
    exact_match,
    last_answer,
    normalise_answer,
    require_gold_answers,
    sub_exact_match,
)
from mmalign.rewards.reward import Reward
from mmalign.rewards.tool_efficiency import (
    fewest_correct_calls,
    otc_grpo_reward,
    otc_ppo_reward,
)

__all__ = ["ROLLOUT_REWARDS", "is_correct"]

Correctness = Literal["exact_match", "sub_exact_match"]
_FEWEST = "fewest_correct_calls"
_TAG = "think|search|information|answer"
_INSIDE = rf"(?:(?!</?(?:{_TAG})>).)*"


def is_correct(episode: Episode, rule: Correctness = "exact_match") -> bool:
    """Whether the final answer is one of the gold answers.

    Raises:
        RecordError: The sample has no gold answer.
    """
    match = exact_match if rule == "exact_match" else sub_exact_match
    return match(episode.final_answer, episode.gold_answers)


@reward(low=0.0, high=1.0)
def answer_exact_match(episode: Episode) -> Reward:
    """1 where the normalised answer equals a gold answer, else 0."""
    return Reward(float(is_correct(episode)))


@reward(low=0.0, high=1.0)
def answer_sub_exact_match(episode: Episode) -> Reward:
    """1 where the normalised answer holds a gold answer, else 0; pays for long answers."""
    return Reward(float(is_correct(episode, "sub_exact_match")))


@reward(low=0.0, high=1.0)
def answer_word_f1(episode: Episode) -> Reward:
    """The best F1 of words of the answer and a gold answer, in [0, 1]."""
    return Reward(answer_f1(episode.final_answer, episode.gold_answers))


@reward(low=0.0, high=1.0)
def otc_ppo(
    episode: Episode,
    *,
    smoothing: float,
    alpha: float = 1.0,
    correctness: Correctness = "exact_match",
) -> Reward:
    """A correct answer, discounted by its tool calls: `otc_ppo_reward`.

    Args:
        episode: The rollout.
        smoothing: c; the largest allowed number of calls.
        alpha: The most that can be earned; a recipe that raises it declares `high` anew.
        correctness: When an answer is right.
    """
    return otc_ppo_reward(
        correct=is_correct(episode, correctness),
        num_calls=episode.num_tool_calls,
        smoothing=smoothing,
        alpha=alpha,
    )


@reward(low=0.0, high=1.0)
def otc_grpo(
    episodes: Sequence[Episode],
    history: JsonDict,
    *,
    smoothing: float,
    alpha: float = 1.0,
    correctness: Correctness = "exact_match",
) -> list[Reward]:
    """A correct answer, discounted by its distance from the fewest calls known.

    The fewest calls of a correct rollout are remembered for each prompt over the whole run.

    Args:
        episodes: All rollouts of a prompt.
        history: Of this prompt.
        smoothing: c; the largest allowed number of calls.
        alpha: The most that can be earned; a recipe that raises it declares `high` anew.
        correctness: When an answer is right.
    """
    right = [is_correct(episode, correctness) for episode in episodes]
    calls = [episode.num_tool_calls for episode in episodes]
    group = [0] * len(episodes)
    fewest = fewest_correct_calls(calls, right, group, {0: history.get(_FEWEST)})[0]
    if fewest is not None:
        history[_FEWEST] = fewest
    return [
        otc_grpo_reward(
            correct=correct,
            num_calls=num_calls,
            fewest_calls=fewest,
            smoothing=smoothing,
            alpha=alpha,
        )
        for correct, num_calls in zip(right, calls, strict=True)
    ]


@reward(low=-1.0, high=0.0)
def overlong(
    episode: Episode, *, max_tokens: int, cache_tokens: int, factor: float = 1.0
) -> Reward:
    """A charge for the last stretch before the longest length: `overlong_penalty`."""
    return overlong_penalty(
        min(episode.num_tokens, max_tokens),
        max_tokens=max_tokens,
        cache_tokens=cache_tokens,
        factor=factor,
    )


@reward(low=0.0, high=1.0, sees="all")
def search_r1_format(episode: Episode) -> Reward:
    """Search-R1's answer and form in one number.

        right answer: 1 in valid form, else 0.8
        wrong answer: 0.2 in valid form, 0.3 if a gold answer was found; else 0.1 with answer tags

    Valid form is a thought, then any number of search, information and thought, then an answer,
    with nothing but blanks between them.

    Source: Search-R1 (Jin et al., 2025), its reward of format.
    """
    found = last_answer(episode.text)
    is_valid = is_search_r1_form(episode.text)
    if found is not None and exact_match(found, episode.gold_answers):
        return Reward(1.0) if is_valid else Reward(0.8, "right, in the wrong form")
    golds = require_gold_answers(episode.gold_answers)
    if not is_valid:
        return Reward(0.0 if found is None else 0.1, "wrong form")
    seen = normalise_answer(" ".join(episode.observations))
    return Reward(0.3 if any(gold in seen for gold in golds) else 0.2)


def is_search_r1_form(text: str) -> bool:
    """Whether a transcript is thoughts, searches with their results, and an answer, in order."""

    def block(tag: str) -> str:
        return rf"<{tag}>{_INSIDE}</{tag}>\s*"

    turns = rf"(?:{block('search')}{block('information')}{block('think')})*"
    whole = rf"\s*{block('think')}{turns}{block('answer')}"
    return re.fullmatch(whole, text, re.DOTALL) is not None


ROLLOUT_REWARDS: Mapping[str, RewardFunction] = MappingProxyType({
    # in the order of the alphabet
    "exact_match": answer_exact_match,
    "f1": answer_word_f1,
    "otc_grpo": otc_grpo,
    "otc_ppo": otc_ppo,
    "overlong_penalty": overlong,
    "search_r1_format": search_r1_format,
    "sub_em": answer_sub_exact_match,
    "vision_r1": vision_r1,
})  # fmt: skip
"""What `name` may say in a recipe's list of rewards."""
