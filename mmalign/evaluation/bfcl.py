"""The metric of BFCL's questions of one turn: is the call, or the silence, right."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmalign.errors import RecordError
from mmalign.evaluation.function_calls import calls_problem, read_calls
from mmalign.evaluation.metrics import Judged, Scores, score_table, subset_of
from mmalign.evaluation.parsing import Profile
from mmalign.evaluation.predictions import Answered, Prediction
from mmalign.evaluation.table import Table
from mmalign.records import Sample

__all__ = ["bfcl"]


def bfcl(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Share of questions whose calls are right, over all and as mean over categories.

    It is no number of the leaderboard, which weighs further categories. Metadata of the items:
    `expects` (`calls`, `no_call` or `any_call`), `functions` and `gold_calls`, JSON texts.

    Source: Berkeley Function-Calling Leaderboard v4 (Patil et al., 2025).
    """
    return score_table(_judge, items, predictions, profile, allow_missing)


def _judge(answered: list[Answered], profile: Profile) -> Judged:
    del profile  # one way to compare calls
    right, num_unread = [], 0
    for sample, text in answered:
        expects, gold, functions = _expected(sample)
        calls = None if text is None else read_calls(text)
        if expects == "no_call":
            right.append(text is not None and not calls)
        elif expects == "any_call":
            right.append(bool(calls))
        else:
            num_unread += text is not None and calls is None
            right.append(bool(calls) and calls_problem(calls or (), gold, functions) is None)
    table = Table(
        units=tuple(answer.sample.id for answer in answered),
        strata=tuple(subset_of(answer.sample) for answer in answered),
        columns={"accuracy": np.array(right, dtype=np.float64)},
        means=("accuracy",),
        macro="macro_accuracy",
    )
    return Judged(table, "accuracy", num_unread)


def _expected(sample: Sample) -> tuple[str, list[Any], list[Any]]:
    try:
        expects = sample.metadata["expects"]
        gold, functions = (json.loads(sample.metadata[k]) for k in ("gold_calls", "functions"))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f'sample "{sample.id}": metadata needs expects, gold_calls and functions, the latter '
            f"two as JSON; read it by mmalign.datasets.bfcl:read"
        ) from error
    return expects, gold, functions
