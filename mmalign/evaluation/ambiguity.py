"""How often a model answers vaguely, as a judge says sentence by sentence.

Source: the labels and the rule are those that CAT's pairs are built by, a reconstruction.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from mmalign.engine import draw_seed
from mmalign.errors import RecordError
from mmalign.evaluation.metrics import Judged, Scores, score_table, subset_of
from mmalign.evaluation.parsing import Profile
from mmalign.evaluation.predictions import Answered, Prediction
from mmalign.evaluation.table import Table
from mmalign.models.ambiguity_judge import judge_answer, read_judgement
from mmalign.models.protocol import ChatModel
from mmalign.records import Sample
from mmalign.selection.ambiguity import JudgedAnswer
from mmalign.selection.clues import clues_of, gold_answer

__all__ = ["ambiguity", "judge_ambiguity"]

_UNREADABLE = JudgedAnswer(grounded=0, wrong=0, useless=0, answered=False)
"""Stands for an answer that was not given, or not judged: as vague as an empty one."""


async def judge_ambiguity(judge: ChatModel, sample: Sample, answer: str) -> str:
    """What the judge says of an answer, as JSON; where it cannot be read twice, the complaint.

    Raises:
        RecordError: The sample has no gold answer.
    """
    reply = await judge_answer(
        judge,
        answer,
        question=sample.question,
        gold=_gold(sample),
        clues=clues_of(sample),
        draw_seed=partial(draw_seed, 0, sample.id, 0),
    )
    return reply.problems[-1] if reply.value is None else reply.value.model_dump_json()


def ambiguity(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Share of answers that are specific, by a judge's replies: grounded throughout, committed.

    Predictions are what `judge_ambiguity` gave for each answer. `ambiguity_rate` is the share of
    the other answers, `mean_ambiguity` the mean share of wrong and useless sentences. A reply that
    cannot be read counts as an ambiguous answer, and as unparsed.
    """
    return score_table(_judge_replies, items, predictions, profile, allow_missing)


def _judge_replies(answered: list[Answered], profile: Profile) -> Judged:
    del profile  # there is one way to read a reply
    counts, num_unparsed = [], 0
    for sample, text in answered:
        _gold(sample)
        found = None if text is None else _counts(text)
        num_unparsed += text is not None and found is None
        counts.append(found or _UNREADABLE)
    ambiguous = np.array([count.ambiguous for count in counts], dtype=np.float64)
    table = Table(
        units=tuple(answer.sample.id for answer in answered),
        strata=tuple(subset_of(answer.sample) for answer in answered),
        columns={
            "specific": 1 - ambiguous,
            "ambiguity_rate": ambiguous,
            "mean_ambiguity": np.array([count.ambiguity for count in counts], dtype=np.float64),
        },
        means=("specific", "ambiguity_rate", "mean_ambiguity"),
    )
    return Judged(table, "specific", num_unparsed)


def _counts(text: str) -> JudgedAnswer | None:
    try:
        return read_judgement(text).counts
    except ValueError:
        return None


def _gold(sample: Sample) -> str:
    gold = gold_answer(sample)
    if gold is None:
        raise RecordError(f'sample "{sample.id}": has no gold answer, which a judge compares with')
    return gold
