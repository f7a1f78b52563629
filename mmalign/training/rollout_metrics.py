"""What a generation's rollouts say about the run: TRL's metrics, and warnings before it is lost."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from mmalign.errors import FailedRatioError
from mmalign.records import Rollout

__all__ = ["EqualGroups", "RolloutFacts", "facts_of", "generation_metrics", "generation_warnings"]

_MAX_EQUAL_GROUPS = 0.8
_MAX_TRUNCATED = 0.2
_HISTOGRAM_BINS = 5


class RolloutFacts(NamedTuple):
    """What is gathered of each rollout from all processes."""

    group: int
    """Place of its prompt in the generation."""
    reward: float | None
    values: Mapping[str, float | None]
    """By reward."""
    parts: Mapping[str, float]
    num_tokens: int
    """That the policy sampled."""
    is_truncated: bool
    num_calls: int
    num_failed_calls: int
    has_failed: bool
    """By the machine's fault."""


def facts_of(group: int, rollout: Rollout) -> RolloutFacts:
    """Of a rollout with rewards."""
    parts = rollout.metadata.get("reward_parts", {})
    return RolloutFacts(
        group=group,
        reward=rollout.reward,
        values=rollout.rewards,
        parts=parts if isinstance(parts, dict) else {},
        num_tokens=sum(rollout.mask),
        is_truncated=rollout.stop == "length",
        num_calls=len(rollout.tool_runs),
        num_failed_calls=sum(run.outcome != "ok" for run in rollout.tool_runs),
        has_failed=rollout.stop == "error",
    )


def generation_metrics(facts: Sequence[RolloutFacts], *, uses_tools: bool) -> dict[str, float]:
    """Means over a generation, under TRL's names; what is unknown is left out."""
    if not facts:
        return {}
    lengths = [fact.num_tokens for fact in facts]
    ended = [fact.num_tokens for fact in facts if not fact.is_truncated]
    metrics: dict[str, float] = {
        "completions/mean_length": fmean(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": _share(fact.is_truncated for fact in facts),
        "rollouts/without_reward": _share(fact.reward is None for fact in facts),
    }
    if ended:
        metrics["completions/mean_terminated_length"] = fmean(ended)
    if uses_tools:
        num_calls = sum(fact.num_calls for fact in facts)
        metrics["tools/call_frequency"] = num_calls / len(facts)
        if num_calls:
            failed = sum(fact.num_failed_calls for fact in facts)
            metrics["tools/failure_frequency"] = failed / num_calls
    groups = _groups(facts)
    if groups:
        metrics["reward"] = fmean(reward for group in groups for reward in group)
        stds = [_std(group) for group in groups if len(group) > 1]
        everywhere = [reward for group in groups for reward in group]
        metrics["reward_std"] = fmean(stds) if stds else _std(everywhere)
        if stds:
            metrics["frac_reward_zero_std"] = _share(std == 0 for std in stds)
    for name in sorted({name for fact in facts for name in fact.values}):
        known = [v for fact in facts if (v := fact.values.get(name)) is not None]
        if known:
            metrics[f"rewards/{name}/mean"] = fmean(known)
            metrics[f"rewards/{name}/std"] = _std(known)
    for name in sorted({name for fact in facts for name in fact.parts}):
        metrics[f"rewards/{name}/mean"] = fmean(f.parts[name] for f in facts if name in f.parts)
    return metrics


def generation_warnings(facts: Sequence[RolloutFacts]) -> Iterator[tuple[str, str]]:
    """What goes wrong in a generation by a short name, and what to do."""
    groups = [group for group in _groups(facts) if len(group) > 1]
    equal = [group[0] for group in groups if len(set(group)) == 1]
    if groups and len(equal) > _MAX_EQUAL_GROUPS * len(groups):
        yield (
            "equal_rewards",
            f"in {len(equal)} of {len(groups)} groups all rewards are equal, so they teach "
            f"nothing; of {_histogram(equal)}. The prompts are too easy or too hard for this "
            f"policy, or a reward is broken; choose others, or dynamic_sampling: true",
        )
    truncated = sum(fact.is_truncated for fact in facts)
    if truncated > _MAX_TRUNCATED * len(facts):
        yield (
            "truncated",
            f"{truncated} of {len(facts)} rollouts ran into the length limit; raise "
            f"rollouts.max_completion_length (and max_turn_length), add the reward "
            f"overlong_penalty, or set mask_truncated_completions: true",
        )
    unknown = sum(fact.reward is None for fact in facts)
    if unknown:
        yield (
            "no_reward",
            f"{unknown} of {len(facts)} rollouts have no reward and are left out",
        )


class EqualGroups:
    """Ends a run whose first groups teach nothing.

    Args:
        limit: Share of them whose rewards may all be equal; None looks at nothing.
        judged_from: Groups that are counted before anything is said.
    """

    def __init__(self, limit: float | None, *, judged_from: int = 100) -> None:
        self._limit = limit
        self._judged_from = judged_from
        self._num_groups = 0
        self._num_equal = 0

    def require_few(self, facts: Sequence[RolloutFacts]) -> None:
        """Count a generation's groups, and look at the share once, when enough are counted.

        Raises:
            FailedRatioError: Too many; says what to do.
        """
        if self._limit is None or self._num_groups >= self._judged_from:
            return
        groups = [group for group in _groups(facts) if len(group) > 1]
        self._num_groups += len(groups)
        self._num_equal += sum(len(set(group)) == 1 for group in groups)
        is_judged = self._num_groups >= self._judged_from
        if is_judged and self._num_equal > self._limit * self._num_groups:
            raise FailedRatioError(
                f"in {self._num_equal} of the first {self._num_groups} groups all rewards are "
                f"equal, more than objective.max_equal_groups {self._limit:g}: such groups teach "
                f"nothing. Train the policy supervised on such rows first (a cold start), or take "
                f"rows that it sometimes gets right"
            )


def _groups(facts: Sequence[RolloutFacts]) -> list[list[float]]:
    """The known rewards of each group."""
    groups: dict[int, list[float]] = defaultdict(list)
    for fact in facts:
        if fact.reward is not None:
            groups[fact.group].append(fact.reward)
    return list(groups.values())


def _histogram(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    width = (high - low) / _HISTOGRAM_BINS or 1.0
    bins = Counter(min(int((value - low) / width), _HISTOGRAM_BINS - 1) for value in values)
    return ", ".join(
        f"{count} near {low + place * width:.3g}" for place, count in sorted(bins.items())
    )


def _share(flags: Iterator[bool]) -> float:
    return fmean(map(float, flags))


def _std(values: Sequence[float]) -> float:
    """Unbiased; exactly 0 where all are equal."""
    return (
        stdev(values)
        if len(values) > 1 and not math.isclose(min(values), max(values), rel_tol=0)
        else 0.0
    )
