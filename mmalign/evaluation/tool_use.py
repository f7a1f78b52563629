"""How well a policy answers with its tools, and what the calls cost.

Like all metrics these are per hundred: `calls` and `cost` of a hundred questions, `productivity`
in right answers per hundred calls.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmalign.engine.rollouts import RolloutConfig, load_tools, roll_out
from mmalign.errors import CapabilityError, ModelCallError, RecordError
from mmalign.evaluation.asking import Question
from mmalign.evaluation.metrics import Judged, Scores, scores_of, subset_of
from mmalign.evaluation.parsing import check_profile
from mmalign.evaluation.predictions import Prediction, by_draw, missing_predictions
from mmalign.evaluation.table import Table
from mmalign.models.protocol import ChatModel, SamplesTokens
from mmalign.records import Rollout, Sample
from mmalign.rewards.question_answering import (
    answer_f1,
    exact_match,
    gold_answers_of,
    require_gold_answers,
)
from mmalign.sandbox import Sandbox

__all__ = ["RolledOut", "rolling_out", "rollout_settings", "tool_costs", "tool_use"]

_COLUMNS = ("accuracy", "f1", "calls", "cost")
_OF_TRAINING = {"num_generations", "temperature", "top_p", "max_concurrent"}


class RolledOut(Prediction):
    """An answer with the way to it."""

    rollout: Rollout


def rolling_out(
    model: ChatModel, config: RolloutConfig, *, sandbox: Sandbox | None, seed: int
) -> Callable[[Question], Awaitable[RolledOut]]:
    """How a question is asked: one greedy rollout by the recipe's budgets.

    Args:
        model: The policy.
        config: Tools and budgets.
        sandbox: For tools that run what the policy wrote.
        seed: Of the draws.

    Raises:
        CapabilityError: The model does not tell which tokens it drew.
    """
    if not isinstance(model, SamplesTokens):
        raise CapabilityError(
            f"{model.name} does not tell which tokens it draws, which rollouts need; take a model "
            f"of backend: transformers"
        )
    policy = model
    greedy = config.model_copy(update={"temperature": 0.0, "top_p": 1.0})
    tools = load_tools(config.tools, sandbox=sandbox)

    async def answer(question: Question) -> RolledOut:
        ((rollout,),) = await roll_out(
            policy, [question.sample], greedy, tools, seed=seed, epoch=0, num_generations=1
        )
        if rollout.stop == "error":
            raise ModelCallError(str(rollout.metadata.get("error")))
        return RolledOut(id=question.sample.id, prediction=rollout.answer or "", rollout=rollout)

    return answer


def tool_use(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Exact match of the final answer, executed calls, and right answers per call.

    Groups are the samples' `question_type` and, where all have one, their `subset`. Productivity
    is a ratio of sums, and is left out where no call was made.

    Raises:
        ConfigError: There is no such profile.
        RecordError: A prediction holds no rollout, or a sample no gold answer.
        MissingPredictionsError: Some samples were not rolled out.

    Source: OTC (Wang et al., 2025): EM, TC and TP.
    """
    check_profile(profile)
    found = by_draw(items, predictions)
    missing = [item.id for item in items if item.id not in found]
    if missing and not allow_missing:
        raise missing_predictions(missing, len(items))
    rollouts = [_rollout_of(found.get(item.id, {})) for item in items]
    rows = [_row(item, rollout) for item, rollout in zip(items, rollouts, strict=True)]
    columns = {name: np.array([row[name] for row in rows]) for name in _COLUMNS}
    table = Table(
        units=tuple(item.id for item in items),
        strata=tuple(map(subset_of, items)),
        columns=columns,
        means=_COLUMNS,
        groups=_groups(items),
        ratios={"productivity": ("accuracy", "calls")} if columns["calls"].any() else {},
    )
    num_unanswered = sum(rollout is not None and rollout.answer is None for rollout in rollouts)
    return scores_of(Judged(table, "accuracy", num_unanswered), len(items), tuple(missing))


def rollout_settings(config: RolloutConfig) -> dict[str, Any]:
    """What of a recipe's rollouts decides over a greedy one."""
    return config.model_dump(mode="json", exclude=_OF_TRAINING)


def tool_costs(predictions: Iterable[Prediction]) -> dict[str, dict[str, float]]:
    """Of each tool: calls that were executed, those that failed, their cost, seconds of one."""
    totals: dict[str, dict[str, float]] = defaultdict(
        lambda: {"calls": 0, "failures": 0, "cost": 0.0, "seconds": 0.0}
    )
    for prediction in predictions:
        for run in prediction.rollout.tool_runs if isinstance(prediction, RolledOut) else ():
            if run.is_executed:
                total = totals[run.tool]
                total["calls"] += 1
                total["failures"] += run.outcome != "ok"
                total["cost"] += run.cost
                total["seconds"] += run.seconds
    return {
        name: {**total, "seconds": total["seconds"] / total["calls"]}
        for name, total in sorted(totals.items())
    }


def _row(sample: Sample, rollout: Rollout | None) -> dict[str, float]:
    golds = gold_answers_of(sample)
    try:
        require_gold_answers(golds)
    except RecordError as error:
        raise RecordError(f'sample "{sample.id}": {error}') from error
    if rollout is None:
        return dict.fromkeys(_COLUMNS, 0.0)
    said = rollout.answer
    return {
        "accuracy": 0.0 if said is None else float(exact_match(said, golds)),
        "f1": 0.0 if said is None else answer_f1(said, golds),
        "calls": float(rollout.num_tool_calls),
        "cost": sum(run.cost for run in rollout.tool_runs if run.is_executed),
    }


def _rollout_of(draws: Mapping[int, Prediction]) -> Rollout | None:
    """The one rollout of a sample.

    Raises:
        RecordError: There are several, or what there is holds none.
    """
    if not draws:
        return None
    if len(draws) > 1:
        raise RecordError(f"a sample has {len(draws)} rollouts, and this metric scores one")
    (prediction,) = draws.values()
    if not isinstance(prediction, RolledOut):
        raise RecordError(
            f'sample "{prediction.id}": a prediction holds no rollout; evaluate this arm again'
        )
    return prediction.rollout


def _groups(items: Sequence[Sample]) -> dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    kinds = np.array([subset_of(item) for item in items])
    groups = {str(name): kinds == name for name in dict.fromkeys(kinds)}
    subsets = [item.metadata.get("subset") for item in items]
    if all(isinstance(subset, str) for subset in subsets):
        named = np.array(subsets)
        groups |= {str(name): named == name for name in dict.fromkeys(subsets)}
    return groups
