"""The golden numbers of icpl."""

from collections.abc import Mapping
from typing import Any

from mmalign.selection.reward_programs import (
    best_and_worst_run,
    preference_queries,
    reward_task_score,
    thin_trace,
)


def evaluate(case: Mapping[str, Any]) -> dict[str, Any]:
    per_iteration = [reward_task_score(scores) for scores in case["task_scores"]]
    return {
        "queries": preference_queries(case["n_candidates"], case["n_iterations"]),
        "picks": [best_and_worst_run(scores)._asdict() for scores in case["task_scores"]],
        "rts_per_iteration": per_iteration,
        "rts": max(per_iteration),
        "trace": thin_trace(case["trace"])._asdict(),
    }
