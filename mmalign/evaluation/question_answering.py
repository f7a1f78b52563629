"""The metrics of open question answering: exact match, F1 of words, containment."""

from collections.abc import Iterable, Sequence

import numpy as np

from mmalign.errors import RecordError
from mmalign.evaluation.metrics import Judged, Scores, score_table, subset_of
from mmalign.evaluation.parsing import Profile
from mmalign.evaluation.predictions import Answered, Prediction
from mmalign.evaluation.table import Table
from mmalign.records import Sample
from mmalign.rewards.question_answering import (
    answer_f1,
    exact_match,
    gold_answers_of,
    last_answer,
    require_gold_answers,
    sub_exact_match,
)

__all__ = ["question_answering"]

_COLUMNS = ("exact_match", "f1", "sub_exact_match")


def question_answering(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Means over questions of what the best of the gold answers earns.

    An answer is what stands in the last <answer> tags, or without any all that was said.

    Source: FlashRAG (Jin et al., 2024) and Search-R1 (Jin et al., 2025), as NQ and HotpotQA are
        scored there.
    """
    return score_table(_judge, items, predictions, profile, allow_missing)


def _judge(answered: list[Answered], profile: Profile) -> Judged:
    del profile  # one way to compare answers
    rows = []
    for sample, text in answered:
        golds = gold_answers_of(sample)
        try:
            require_gold_answers(golds)
        except RecordError as error:
            raise RecordError(f'sample "{sample.id}": {error}') from error
        said = "" if text is None else last_answer(text) or text
        rows.append(
            (exact_match(said, golds), answer_f1(said, golds), sub_exact_match(said, golds))
        )
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(_COLUMNS))
    table = Table(
        units=tuple(answer.sample.id for answer in answered),
        strata=tuple(subset_of(answer.sample) for answer in answered),
        columns={name: values[:, place] for place, name in enumerate(_COLUMNS)},
        means=_COLUMNS,
    )
    num_empty = sum(text is not None and not text.strip() for _, text in answered)
    return Judged(table, "exact_match", num_empty)
