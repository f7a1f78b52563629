"""MUSIC-AVQA: one class of a closed set per question, accuracies per type and modality.

A classifier over the 42 classes chooses one of them in any case; a generator may name none or
several, which counts as wrong. Whoever sets the two side by side should say so.

Source: MUSIC-AVQA (Li et al., 2022); how the text of a generator is read is mmalign's own.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from mmalign.errors import RecordError
from mmalign.evaluation.metrics import Judged, Scores, score_table
from mmalign.evaluation.parsing import Profile, normalise, parse_yes_no
from mmalign.evaluation.predictions import Answered, Prediction
from mmalign.evaluation.table import Table
from mmalign.records import Sample

__all__ = ["CLASSES", "music_avqa", "parse_class"]

_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
)
_MANY = "more than ten"
_INSTRUMENTS = (
    *("accordion", "acoustic guitar", "bagpipe", "banjo", "bassoon", "cello", "clarinet"),
    *("congas", "drum", "electric bass", "erhu", "flute", "guzheng", "piano", "pipa"),
    *("saxophone", "suona", "trumpet", "tuba", "ukulele", "violin", "xylophone"),
)
CLASSES = (
    *("yes", "no", *_NUMBERS, _MANY),
    *("left", "middle", "right", "indoor", "outdoor", "simultaneously"),
    *_INSTRUMENTS,
)
"""All answers of the data set, words apart by spaces."""


def music_avqa(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Accuracy over all items, per modality (pooled over its types) and per type.

    Items carry `metadata["question_type"]`, as `Audio-Visual/Location`; where they carry
    `answer_short` it is the gold class instead of the answer, and where they carry
    `answer_classes` only these can be meant by an answer. Answers may be sentences.
    """
    return score_table(_judge, items, predictions, profile, allow_missing)


def parse_class(text: str, classes: Sequence[str]) -> str | None:
    """The one class that an answer names, or None.

    Case, punctuation and underscores do not count, digits are words, what is above ten is
    `more than ten`. Text that is no class may name one: whole words (an s may follow),
    longer names first, no word in two names; naming two different classes is naming none.

    Args:
        text: What the model wrote.
        classes: All that can be meant.
    """
    words = _plain(text)
    names = {_plain(name): name for name in classes}
    if words in names:
        return names[words]
    longest_first = sorted(names, key=len, reverse=True)
    pattern = "|".join(re.escape(name) for name in longest_first)
    found = set(re.findall(rf"\b({pattern})s?\b", words))
    return names[found.pop()] if len(found) == 1 else None


def _plain(text: str) -> str:
    words = re.findall(r"\w+", normalise(text.replace("_", " ")))
    return " ".join(_number(word) for word in words)


def _number(word: str) -> str:
    if not word.isdecimal():
        return word
    return _NUMBERS[int(word)] if int(word) < len(_NUMBERS) else _MANY


def _judge(answered: list[Answered], profile: Profile) -> Judged:
    del profile  # the published scorer judges classifiers, not text
    right, num_unparsed = [], 0
    for sample, text in answered:
        classes = tuple(map(_plain, sample.metadata.get("answer_classes") or CLASSES))
        gold = _plain(str(sample.metadata.get("answer_short") or sample.answer or ""))
        if gold not in classes:
            raise RecordError(
                f'sample "{sample.id}": the gold answer {gold!r} is none of the '
                f"{len(classes)} classes"
            )
        said = None
        if text is not None:
            said = parse_yes_no(text) if gold in ("yes", "no") else parse_class(text, classes)
            num_unparsed += said is None
        right.append(said == gold)
    types = [_type_of(answer.sample) for answer in answered]
    modalities = [name.partition("/")[0] for name in types]
    groups = {
        name: np.array(
            [name in (one, modality) for one, modality in zip(types, modalities, strict=True)]
        )
        for name in (*dict.fromkeys(modalities), *dict.fromkeys(types))
    }
    table = Table(
        units=tuple(answer.sample.id for answer in answered),
        strata=tuple(types),
        columns={"accuracy": np.array(right, dtype=np.float64)},
        means=("accuracy",),
        groups=groups,
    )
    return Judged(table, "accuracy", num_unparsed)


def _type_of(sample: Sample) -> str:
    """Modality and kind of the question."""
    found = sample.metadata.get("question_type")
    if not isinstance(found, str) or not re.fullmatch(r"[^/]+/[^/]+", found):
        raise RecordError(
            f'sample "{sample.id}": the question type is {found!r}, expected modality and kind as '
            f"Audio-Visual/Location"
        )
    return found
