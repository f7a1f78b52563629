"""Answers that were given before, scored by the metric that a recipe names."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from mmalign.errors import ConfigError
from mmalign.evaluation.ambiguity import ambiguity, judge_ambiguity
from mmalign.evaluation.bfcl import bfcl
from mmalign.evaluation.detection import detection
from mmalign.evaluation.metrics import (
    Metric,
    Scores,
    exact_match,
    multiple_choice,
    values_of,
    videohallucer,
)
from mmalign.evaluation.music_avqa import music_avqa
from mmalign.evaluation.pass_at_k import functional_correctness
from mmalign.evaluation.predictions import Prediction
from mmalign.evaluation.question_answering import question_answering
from mmalign.evaluation.table import side_by_side
from mmalign.evaluation.tempcompass import tempcompass
from mmalign.evaluation.tool_use import tool_use
from mmalign.models.protocol import ChatModel
from mmalign.records import Sample

__all__ = [
    "JUDGES",
    "METRICS",
    "ROLLS_OUT",
    "RUNS",
    "require_draws",
    "require_judge",
    "require_rollouts",
    "require_sandbox",
    "score",
    "score_judged",
]

METRICS: dict[str, Metric] = {
    "videohallucer": videohallucer,
    "tempcompass": tempcompass,
    "tvbench": multiple_choice,
    "multiple_choice": multiple_choice,
    "exact_match": exact_match,
    "ambiguity": ambiguity,
    "music_avqa": music_avqa,
    "avqa": multiple_choice,
    "pass_at_k": functional_correctness,
    "detection": detection,
    "tool_use": tool_use,
    "question_answering": question_answering,
    "bfcl": bfcl,
}

JUDGES: dict[str, Callable[[ChatModel, Sample, str], Awaitable[str]]] = {
    "ambiguity": judge_ambiguity,
}
"""How a judge is asked about an answer, by the metric that scores its replies."""

RUNS = frozenset({"pass_at_k"})
"""Metrics that score what becomes of the programs in answers."""

ROLLS_OUT = frozenset({"tool_use"})
"""Metrics of what a policy does with its tools, by the recipe's rollouts."""


def score(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    metric: str,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Score answers that were given before.

    Raises:
        ConfigError: There is no such metric or profile.
        RecordError: An id comes twice, or an item lacks what the metric needs.
        MissingPredictionsError: Some items have no prediction; names the first five.
    """
    return _metric(metric)(items, predictions, profile=profile, allow_missing=allow_missing)


def score_judged(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    replies: Iterable[Prediction],
    *,
    metric: str,
    beside: str | None = None,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Score a judge's replies about answers, and by another metric the answers themselves.

    Raises:
        ConfigError: There is no such metric or profile, or the two do not count the same units.
        RecordError, MissingPredictionsError: As `score`.
    """
    settings: dict[str, Any] = {"profile": profile, "allow_missing": allow_missing}
    judged = score(items, replies, metric=metric, **settings)
    if beside is None:
        return judged
    other = score(items, predictions, metric=beside, **settings)
    table = side_by_side(other.table, judged.table, f"evaluation.beside: {beside}")
    values = values_of(table)
    return replace(
        judged,
        metrics=values.metrics,
        subsets=values.subsets,
        counts=other.counts,
        unparsed=judged.unparsed + other.unparsed,
        table=table,
    )


def require_judge(metric: str, *, has_judge: bool, beside: str | None = None) -> None:
    """Refuse a metric of a judge's replies without a judge, and a judge that nobody asks.

    Raises:
        ConfigError: Says which it is.
    """
    if metric in JUDGES and not has_judge:
        raise ConfigError(
            f"evaluation.metric: {metric} scores what a judge says of the answers; add "
            f"evaluation.judge, a model"
        )
    if metric not in JUDGES and (has_judge or beside is not None):
        raise ConfigError(
            f"evaluation.metric: {metric} asks no judge, found evaluation.judge or "
            f"evaluation.beside; leave them out or use {', '.join(JUDGES)}"
        )


def require_sandbox(metric: str, *, has_sandbox: bool) -> None:
    """Refuse a metric of programs that run without a sandbox, and a sandbox that runs none.

    Raises:
        ConfigError: Says which it is.
    """
    if metric in RUNS and not has_sandbox:
        raise ConfigError(f"evaluation.metric: {metric} runs programs; give it a sandbox")
    if metric not in RUNS | ROLLS_OUT and has_sandbox:
        raise ConfigError(
            f"evaluation.metric: {metric} runs nothing, found a sandbox; leave it out or use "
            f"{', '.join(sorted(RUNS))}"
        )


def require_rollouts(metric: str, *, has_rollouts: bool) -> None:
    """Refuse a metric of what a policy does with its tools without a word on how it does it.

    Raises:
        ConfigError: The recipe says nothing about rollouts.
    """
    if metric in ROLLS_OUT and not has_rollouts:
        raise ConfigError(
            f"evaluation.metric: {metric} rolls the policy out, but the recipe has no rollouts; "
            f"say how under rollouts"
        )


def require_draws(metric: str, *, num_samples: int, k: Sequence[int], temperature: float) -> None:
    """Refuse numbers of answers that the metric does not score, or that would all be the same.

    Raises:
        ConfigError: Says which it is.
    """
    if metric not in RUNS and (num_samples > 1 or tuple(k) != (1,)):
        raise ConfigError(
            f"evaluation.metric: {metric} scores one answer per question, found num_samples "
            f"{num_samples} and k {list(k)}; leave both out"
        )
    if not k or min(k) < 1 or len(set(k)) < len(k) or max(k) > num_samples:
        raise ConfigError(
            f"evaluation.k: found {list(k)} with num_samples {num_samples}; expected different "
            f"numbers from 1 to num_samples"
        )
    if num_samples == 1 and temperature != 0:
        raise ConfigError(
            f"evaluation is greedy, found temperature {temperature}; set it to 0, or draw several "
            f"answers with num_samples where the metric takes them"
        )
    if num_samples > 1 and temperature == 0:
        raise ConfigError(
            f"evaluation.num_samples: {num_samples} answers at temperature 0 are all the same; "
            f"set sampling.temperature, 0.2 for pass@1 and 0.8 for larger k are customary"
        )


def _metric(name: str) -> Metric:
    try:
        return METRICS[name]
    except KeyError:
        raise ConfigError(
            f"there is no metric {name!r}; known metrics: {', '.join(METRICS)}"
        ) from None
