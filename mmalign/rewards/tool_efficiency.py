"""OTC: a correct answer earns more the fewer tool calls it took; a wrong one earns nothing.

The product of correctness and efficiency is meant: added up, a wrong answer without calls would
earn. Count the calls that were really executed, queries where one request holds several.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from mmalign.errors import RecordError, ShapeError
from mmalign.rewards.reward import Reward

__all__ = [
    "ToolUse",
    "fewest_correct_calls",
    "mapped_calls",
    "otc_grpo_efficiency",
    "otc_grpo_reward",
    "otc_ppo_efficiency",
    "otc_ppo_reward",
    "tool_productivity",
]

GroupId = TypeVar("GroupId", bound=Hashable)


class ToolUse(NamedTuple):
    """How well a test set was answered, and at which price."""

    exact_match: float
    """Share of correct answers, in [0, 1]."""
    tool_calls: float
    """Mean number of calls of a question."""
    productivity: float | None
    """Correct answers per call, a ratio of sums; None where no call was made."""


def otc_ppo_efficiency(num_calls: int, *, smoothing: float) -> float:
    """Efficiency of a rollout on its own: the fewer calls, the better.

        cos(m * pi / (2 * m + smoothing))

    Args:
        num_calls: m, executed calls.
        smoothing: c, > 0; the larger, the cheaper a call. The largest allowed number of calls.

    Returns:
        In [0, 1]: 1 without calls, strictly falling, towards 0.

    Raises:
        RecordError: num_calls is no count.
        ShapeError: smoothing is not positive.

    Source: OTC (Wang et al., 2025), its reward for PPO.
    """
    _require_count("num_calls", num_calls)
    _require_positive("smoothing", smoothing)
    # the cosine itself loses digits where it is near 0
    return math.sin(math.pi * smoothing / (4 * num_calls + 2 * smoothing))


def mapped_calls(num_calls: int, fewest_calls: int) -> float:
    """f(m, n) of the paper: calls of a rollout on a scale on which the optimum is n.

        f = m              where n = 0
        f = 2nm / (m + n)  elsewhere, in [0, 2n)

    Raises:
        RecordError: An argument is no count.

    Source: OTC (Wang et al., 2025), its reward for GRPO.
    """
    _require_count("num_calls", num_calls)
    _require_count("fewest_calls", fewest_calls)
    if fewest_calls == 0:
        return float(num_calls)
    return 2 * fewest_calls * num_calls / (num_calls + fewest_calls)


def otc_grpo_efficiency(num_calls: int, fewest_calls: int, *, smoothing: float) -> float:
    """Efficiency of a rollout against the fewest calls that its question needs.

        1                                  where m = n = 0
        cos(m * pi / (2 * m + smoothing))  where n = 0
        sin(f(m, n) * pi / (2 * n))        elsewhere, which is sin(pi * m / (m + n))

    Args:
        num_calls: m, executed calls.
        fewest_calls: n, of `fewest_correct_calls`.
        smoothing: c, > 0; plays no part where n > 0.

    Returns:
        In [0, 1]: 1 where m equals n and nowhere else; symmetric in both where n > 0.

    Raises:
        RecordError: An argument is no count.
        ShapeError: smoothing is not positive.

    Source: OTC (Wang et al., 2025), its reward for GRPO.
    """
    if fewest_calls == 0:
        return otc_ppo_efficiency(num_calls, smoothing=smoothing)
    _require_positive("smoothing", smoothing)
    return math.sin(mapped_calls(num_calls, fewest_calls) * math.pi / (2 * fewest_calls))


def otc_ppo_reward(
    *, correct: bool, num_calls: int, smoothing: float, alpha: float = 1.0
) -> Reward:
    """Reward a rollout by its answer, discounted by its tool calls.

        reward = alpha * correct * otc_ppo_efficiency

    Args:
        correct: Whether the answer is right; 0 and 1 are taken as well, shares are not.
        num_calls: Executed calls.
        smoothing: c, > 0; the largest allowed number of calls.
        alpha: The most that can be earned, > 0.

    Returns:
        In [0, alpha]; 0 for a wrong answer.

    Raises:
        RecordError: num_calls is no count, or correct neither true nor false.
        ShapeError: A setting is not positive.

    Source: OTC (Wang et al., 2025), OTC-PPO.
    """
    efficiency = otc_ppo_efficiency(num_calls, smoothing=smoothing)
    return _reward(efficiency, correct=correct, alpha=alpha)


def otc_grpo_reward(
    *,
    correct: bool,
    num_calls: int,
    fewest_calls: int | None,
    smoothing: float,
    alpha: float = 1.0,
) -> Reward:
    """Reward a rollout by its answer, discounted by its distance from the fewest calls known.

        reward = alpha * correct * otc_grpo_efficiency

    Args:
        correct: Whether the answer is right; 0 and 1 are taken as well, shares are not.
        num_calls: Executed calls.
        fewest_calls: Of `fewest_correct_calls`; None where no answer was ever right.
        smoothing: c, > 0.
        alpha: The most that can be earned, > 0.

    Returns:
        In [0, alpha]; 0 for a wrong answer, and with a note where fewest_calls is None.

    Raises:
        RecordError: A number of calls is no count, correct is neither true nor false, or the
            answer is correct though fewest_calls is None.
        ShapeError: A setting is not positive.

    Source: OTC (Wang et al., 2025), OTC-GRPO.
    """
    _require_positive("alpha", alpha)
    _require_positive("smoothing", smoothing)
    if fewest_calls is None:
        _require_count("num_calls", num_calls)
        if _truth(correct):
            raise RecordError(
                "a correct rollout with fewest_calls None; it is a correct rollout itself: "
                "take fewest_calls from fewest_correct_calls"
            )
        return Reward(0.0, note="no rollout of the question was ever correct")
    efficiency = otc_grpo_efficiency(num_calls, fewest_calls, smoothing=smoothing)
    return _reward(efficiency, correct=correct, alpha=alpha)


def fewest_correct_calls(
    num_calls: Sequence[int],
    correct: Sequence[bool],
    group_ids: Sequence[GroupId],
    history: Mapping[GroupId, int | None] | None = None,
) -> dict[GroupId, int | None]:
    """The fewest calls with which each question was ever answered correctly.

    Args:
        num_calls: Executed calls of each rollout.
        correct: Whether its answer is right.
        group_ids: Its question, by an id that no other question shares.
        history: What earlier epochs found; a question may be missing or None.

    Returns:
        One entry per group in the order of its first rollout; None where there is neither a
        correct rollout nor a history. Never above the history: to be kept as the next one.

    Raises:
        ShapeError: Unequal lengths.
        RecordError: A number of calls is no count.

    Source: OTC (Wang et al., 2025), its estimate of the optimum; that the history is kept per
        question is a reconstruction.
    """
    if not len(num_calls) == len(correct) == len(group_ids):
        raise ShapeError(
            f"{len(num_calls)} num_calls, {len(correct)} correct and {len(group_ids)} group_ids, "
            f"expected one of each per rollout"
        )
    fewest: dict[GroupId, int | None] = {}
    for calls, right, group_id in zip(num_calls, correct, group_ids, strict=True):
        _require_count("num_calls", calls)
        best = fewest.setdefault(group_id, (history or {}).get(group_id))
        if _truth(right) and (best is None or calls < best):
            fewest[group_id] = calls
    return fewest


def tool_productivity(correct: Sequence[bool], num_calls: Sequence[int]) -> ToolUse:
    """Accuracy, calls and correct answers per call over a test set.

    Args:
        correct: Whether each question was answered right.
        num_calls: Executed calls of each question.

    Raises:
        ShapeError: Unequal lengths, or no question.
        RecordError: A number of calls is no count.

    Source: OTC (Wang et al., 2025): EM, TC and TP.
    """
    if len(correct) != len(num_calls) or not correct:
        raise ShapeError(
            f"{len(correct)} correct and {len(num_calls)} num_calls, expected one of each per "
            f"question, and a question at least"
        )
    for calls in num_calls:
        _require_count("num_calls", calls)
    num_correct, total_calls = sum(map(_truth, correct)), sum(num_calls)
    return ToolUse(
        exact_match=num_correct / len(correct),
        tool_calls=total_calls / len(num_calls),
        productivity=num_correct / total_calls if total_calls else None,
    )


def _reward(efficiency: float, *, correct: bool, alpha: float) -> Reward:
    _require_positive("alpha", alpha)
    return Reward(alpha * efficiency * _truth(correct))


def _truth(correct: bool) -> bool:
    if correct not in (0, 1):
        raise RecordError(f"correct is {correct}, expected true or false")
    return bool(correct)


def _require_count(name: str, number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise RecordError(f"{name} is {number!r}, expected 0 or a positive whole number")


def _require_positive(name: str, number: float) -> None:
    if not 0 < number < math.inf:
        raise ShapeError(f"{name} is {number}, expected a positive finite number")
