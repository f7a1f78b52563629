"""OTC as preference data: which of a question's rollouts become the two sides of a pair."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mmalign.errors import RecordError
from mmalign.rewards.tool_efficiency import fewest_correct_calls, otc_grpo_reward

__all__ = ["Attempt", "ToolPair", "tool_pairs"]

Pool = Literal["economy", "correctness"]


class Attempt(NamedTuple):
    """One rollout of a question."""

    correct: bool
    num_calls: int
    """That were executed."""


class ToolPair(NamedTuple):
    """Two rollouts of a question, by place."""

    pool: Pool
    """economy: both are right, the rejected one called more; correctness: the rejected is wrong."""
    chosen: int
    rejected: int
    chosen_reward: float
    rejected_reward: float
    fewest_calls: int
    """n, of the question's correct rollouts."""


def tool_pairs(
    attempts: Sequence[Attempt], *, smoothing: float, alpha: float = 1.0, delta: float = 0.1
) -> tuple[ToolPair, ...]:
    """At most one pair for each pool, in the order of the pools.

    The chosen rollout earns the largest reward. Over it the pool of economy sets the correct
    rollout that earns least, the pool of correctness the wrong one that called most; of equals the
    first counts.

    Args:
        attempts: All rollouts of one question.
        smoothing: c of OTC, > 0; the largest allowed number of calls.
        alpha: The most that can be earned.
        delta: Least difference of the two rewards, > 0.

    Returns:
        Nothing where no rollout is correct.

    Raises:
        RecordError: delta is not positive, or a number of calls is no count.

    Source: mmalign's reading of OTC (Wang et al., 2025), which builds no pairs itself.
    """
    if not delta > 0:
        raise RecordError(f"delta is {delta}, expected > 0: else the sides may be equally good")
    num_calls = [attempt.num_calls for attempt in attempts]
    right = [attempt.correct for attempt in attempts]
    fewest = fewest_correct_calls(num_calls, right, [0] * len(attempts)).get(0)
    if fewest is None:
        return ()
    rewards = [
        otc_grpo_reward(
            correct=attempt.correct,
            num_calls=attempt.num_calls,
            fewest_calls=fewest,
            smoothing=smoothing,
            alpha=alpha,
        ).value
        for attempt in attempts
    ]
    chosen = max(range(len(attempts)), key=lambda place: rewards[place])
    correct = [place for place, is_right in enumerate(right) if is_right]
    wrong = [place for place, is_right in enumerate(right) if not is_right]
    rejected: dict[Pool, int] = {"economy": min(correct, key=lambda place: rewards[place])}
    if wrong:
        rejected["correctness"] = max(wrong, key=lambda place: num_calls[place])
    return tuple(
        ToolPair(pool, chosen, place, rewards[chosen], rewards[place], fewest)
        for pool, place in rejected.items()
        if rewards[chosen] - rewards[place] >= delta
    )
