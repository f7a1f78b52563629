"""What is right: pairs of yes/no questions, options, exact answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from mmalign.errors import RecordError
from mmalign.evaluation.parsing import (
    Profile,
    check_profile,
    is_yes_no_hit,
    normalise,
    parse_letter,
    parse_yes_no,
)
from mmalign.evaluation.predictions import Answered, Prediction, match
from mmalign.evaluation.table import Table, estimates
from mmalign.records import Sample

__all__ = [
    "Judged",
    "Metric",
    "Scores",
    "exact_match",
    "multiple_choice",
    "score_table",
    "scores_of",
    "subset_of",
    "values_of",
    "videohallucer",
]


@dataclass(frozen=True)
class Scores:
    """Metrics in percent, and what they were counted over."""

    main: str
    """The metric that the benchmark is known by."""
    metrics: Mapping[str, float]
    subsets: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    """Items, units, and items per subset as `items/SUBSET`."""
    unparsed: int
    """Answers that could not be read; they count as wrong."""
    missing: tuple[str, ...]
    """Ids without an answer; they count as wrong."""
    table: Table


class Metric(Protocol):
    """Scores predictions against items."""

    def __call__(
        self,
        items: Sequence[Sample],
        predictions: Iterable[Prediction],
        *,
        profile: str = "strict",
        allow_missing: bool = False,
    ) -> Scores:
        """Score all items; raises where an item has no prediction unless `allow_missing`."""
        ...


class Judged(NamedTuple):
    """Outcomes of all units."""

    table: Table
    main: str
    num_unparsed: int
    num_left_out: int = 0
    """Items that the metric is not about."""


def videohallucer(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Pairs of a basic question (yes) and a hallucinated one (no): right only if both are.

    Items carry `group_id` and `metadata["role"]`, basic or hallucinated; others are left out.
    Headline metrics are unweighted means over subsets. `yes_difference` is the share of yes
    among the answers minus that among the gold ones; `false_positive_ratio` is the share of yes
    to no-questions among all wrong answers.

    Source: VideoHallucer (Wang et al., 2024), section 4; bias metrics by their definition, not
    by the shipped script, which mixes up the two questions of a pair.
    """
    return score_table(_judge_pairs, items, predictions, profile, allow_missing)


def multiple_choice(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Share of items whose option was named: over all items, and as mean over subsets.

    Source: TVBench (Cores et al., 2024), as RRPO evaluates it: the average is over all items.
    """
    return score_table(_judge_options, items, predictions, profile, allow_missing)


def exact_match(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Share of items answered with the gold text, without regard to case and punctuation."""
    return score_table(_judge_texts, items, predictions, profile, allow_missing)


def score_table(
    judge: Callable[[list[Answered], Profile], Judged],
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    profile: str,
    allow_missing: bool,
) -> Scores:
    """Match, judge and count.

    Raises:
        RecordError: An id comes twice, or an item lacks what the metric needs.
        MissingPredictionsError: Some items have no prediction.
        ConfigError: There is no such profile.
    """
    answered = match(items, predictions, allow_missing=allow_missing)
    missing = tuple(answer.sample.id for answer in answered if answer.text is None)
    return scores_of(judge(answered, check_profile(profile)), len(items), missing)


def scores_of(judged: Judged, num_items: int, missing: tuple[str, ...]) -> Scores:
    """The metrics of a table of outcomes, and its counts.

    Raises:
        RecordError: The table is empty.
    """
    table = judged.table
    values = values_of(table)
    counts = {"items": num_items - judged.num_left_out, "units": len(table.units)}
    if judged.num_left_out:
        counts["left_out"] = judged.num_left_out
    for group, inside in table.members().items():
        counts[f"items/{group}"] = int(inside.sum()) * (counts["items"] // counts["units"])
    return Scores(
        main=judged.main,
        metrics=values.metrics,
        subsets=values.subsets,
        counts=counts,
        unparsed=judged.num_unparsed,
        missing=missing,
        table=table,
    )


class Values(NamedTuple):
    """What follows from a table, in percent."""

    metrics: Mapping[str, float]
    subsets: Mapping[str, Mapping[str, float]]


def values_of(table: Table) -> Values:
    """All metrics of a table, over all units and by group."""
    metrics: dict[str, float] = {}
    subsets: dict[str, dict[str, float]] = {}
    for name, value in estimates(table, np.ones((1, len(table.units)))).items():
        group, slash, metric = name.rpartition("/")
        inside = subsets.setdefault(group, {}) if slash else metrics
        inside[metric] = float(value[0])
    return Values(metrics, subsets)


def subset_of(sample: Sample) -> str:
    """The part of the data set that the sample is counted in."""
    return str(sample.metadata.get("question_type") or sample.metadata.get("subset") or "all")


# Judges -------------------------------------------------------------------------------------


def _judge_pairs(answered: list[Answered], profile: Profile) -> Judged:
    groups: dict[str, dict[str, Answered]] = {}
    num_left_out = 0
    for answer in answered:
        sample, role = answer.sample, answer.sample.metadata.get("role")
        if role not in ("basic", "hallucinated"):
            num_left_out += 1
            continue
        if sample.group_id is None:
            raise RecordError(f'sample "{sample.id}": has a role but no group_id')
        group = groups.setdefault(sample.group_id, {})
        if role in group:
            raise RecordError(
                f'group "{sample.group_id}": "{group[role].sample.id}" and "{sample.id}" are both '
                f"its {role} question; a pair has one of each"
            )
        group[role] = answer
    for name, group in groups.items():
        if len(group) != 2:
            raise RecordError(
                f'group "{name}": has no {"basic" if "basic" not in group else "hallucinated"} '
                f"question; a pair has one of each"
            )
    rows = [_pair_row(group["basic"], group["hallucinated"], profile) for group in groups.values()]
    strata = tuple(subset_of(group["basic"].sample) for group in groups.values())
    table = Table(
        units=tuple(groups),
        strata=strata,
        columns={
            name: np.array([row[name] for row in rows], dtype=np.float64) for name in _COLUMNS
        },
        means=("overall", "basic", "hallucinated"),
        over=tuple(dict.fromkeys(strata)),
        ratios={
            "yes_difference": ("yes_surplus", "questions"),
            "false_positive_ratio": ("false_positives", "wrong"),
        },
    )
    num_unparsed = int(sum(row["unparsed"] for row in rows))
    return Judged(table, "overall", num_unparsed, num_left_out)


_COLUMNS = (
    *("overall", "basic", "hallucinated", "yes_surplus", "questions"),
    *("false_positives", "wrong", "unparsed"),
)


def _pair_row(basic: Answered, hallucinated: Answered, profile: Profile) -> dict[str, float]:
    row = dict.fromkeys(_COLUMNS, 0.0)
    hits = []
    for answer in (basic, hallucinated):
        gold = parse_yes_no(answer.sample.answer or "")
        if gold is None:
            raise RecordError(
                f'sample "{answer.sample.id}": the gold answer {answer.sample.answer!r} is neither '
                f"yes nor no"
            )
        text = answer.text or ""
        says_yes = is_yes_no_hit(text, "yes", profile)
        says_no = is_yes_no_hit(text, "no", profile)
        hit = says_yes if gold == "yes" else says_no
        hits.append(hit)
        row["questions"] += 1
        row["yes_surplus"] += says_yes - (gold == "yes")
        row["wrong"] += not hit
        row["false_positives"] += not hit and gold == "no" and says_yes
        row["unparsed"] += answer.text is not None and not (says_yes or says_no)
    row["basic"], row["hallucinated"] = hits
    row["overall"] = all(hits)
    return row


def _judge_options(answered: list[Answered], profile: Profile) -> Judged:
    right, num_unparsed = [], 0
    for sample, text in answered:
        gold = chr(ord("A") + _gold_index(sample))
        letter = None if text is None else parse_letter(text, sample.choices or (), profile)
        num_unparsed += text is not None and letter is None
        right.append(letter == gold)
    return Judged(_items_table(answered, right), "accuracy", num_unparsed)


def _gold_index(sample: Sample) -> int:
    if not sample.choices:
        raise RecordError(f'sample "{sample.id}": has no choices')
    if sample.answer_index is not None:
        return sample.answer_index
    if sample.answer not in sample.choices:
        raise RecordError(
            f'sample "{sample.id}": the answer {sample.answer!r} is none of its choices'
        )
    return sample.choices.index(sample.answer)


def _judge_texts(answered: list[Answered], profile: Profile) -> Judged:
    del profile  # there is one way to compare texts
    right, num_unparsed = [], 0
    for sample, text in answered:
        if not sample.answer:
            raise RecordError(f'sample "{sample.id}": has no gold answer')
        said = None if text is None else normalise(text)
        num_unparsed += said == ""
        right.append(said == normalise(sample.answer))
    return Judged(_items_table(answered, right), "accuracy", num_unparsed)


def _items_table(answered: list[Answered], right: list[bool]) -> Table:
    return Table(
        units=tuple(answer.sample.id for answer in answered),
        strata=tuple(subset_of(answer.sample) for answer in answered),
        columns={"accuracy": np.array(right, dtype=np.float64)},
        means=("accuracy",),
        macro="macro_accuracy",
    )
