"""Signs that DSTC's data teaches little: few pairs, one-sided votes, unreadable replies."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from mmalign.api import DroppedSample, PreferencePair

__all__ = ["warnings_about"]

_MIN_KEPT = 0.3
_MIN_SCORE, _MAX_SCORE = 0.2, 0.95
_MAX_UNREADABLE = 0.5
_MAX_LENGTH_RATIO = 1.5
_MIN_RECORDS = 5
"""Fewer say nothing about a data set."""


def warnings_about(records: Sequence[PreferencePair | DroppedSample]) -> list[str]:
    """What a person should know about the agent's records."""
    if len(records) < _MIN_RECORDS:
        return []
    votes = [record.lineage.votes for record in records]
    pairs = [record for record in records if isinstance(record, PreferencePair)]
    found = []
    if len(pairs) < _MIN_KEPT * len(records):
        found.append(
            f"only {len(pairs)} of {len(records)} instructions became a pair, below "
            f"{_MIN_KEPT:.0%}; the funnel says why"
        )
    for name in ("programs", "tests"):
        found += _unreadable(name, [vote[name] for vote in votes if name in vote])
    scores = [
        float(vote["execution"]["mean_score"])
        for vote in votes
        if "mean_score" in vote.get("execution", {})
    ]
    if scores and not _MIN_SCORE <= (score := fmean(scores)) <= _MAX_SCORE:
        found.append(
            f"a program passes {score:.0%} of the tests on average; below {_MIN_SCORE:.0%} or "
            f"above {_MAX_SCORE:.0%} the votes say little about which program is right"
        )
    return found + _lengths(pairs)


def _unreadable(name: str, counts: Sequence[dict[str, Any]]) -> list[str]:
    """Duplicates can be read, so they do not count."""
    num_drawn = sum(count["num_drawn"] for count in counts)
    reasons = {
        reason: sum(count.get(reason, 0) for count in counts)
        for count in counts
        for reason in count
        if reason not in ("num_drawn", "num_kept", "duplicate", "unreadable")
    }
    num_lost = sum(reasons.values())
    if num_lost <= _MAX_UNREADABLE * num_drawn:
        return []
    commonest = ", ".join(sorted(reasons, key=reasons.__getitem__, reverse=True)[:3])
    return [
        f"{num_lost} of {num_drawn} replies hold none of the {name} asked for ({commonest}); the "
        f"prompt does not suit this model: look at its chat template and stop strings, or give "
        f"agent.{name.removesuffix('s')}_prompt a file of your own"
    ]


def _lengths(pairs: Sequence[PreferencePair]) -> list[str]:
    """Sums of log-probabilities prefer one length; the mean lengths say how much is at stake."""
    if not pairs:
        return []
    chosen = fmean(len(pair.chosen.text) for pair in pairs)
    rejected = fmean(len(pair.rejected.text) for pair in pairs)
    if max(chosen, rejected) <= _MAX_LENGTH_RATIO * min(chosen, rejected):
        return []
    return [
        f"chosen responses have {chosen:.0f} characters on average, rejected ones {rejected:.0f}; "
        f"the policy may learn their length"
    ]
