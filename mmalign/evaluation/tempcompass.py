"""TempCompass: rules per task, accuracies per temporal aspect.

Left out: judging answers that no rule matches, and captions, by another language model. Such
answers count as wrong, as under the published option to do without one, and captions are left
out of the scores and counted.

Source: TempCompass (Liu et al., 2024), its evaluation code.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from mmalign.errors import RecordError
from mmalign.evaluation.metrics import Judged, Scores, score_table
from mmalign.evaluation.parsing import Profile, parse_letter, parse_yes_no
from mmalign.evaluation.predictions import Answered, Prediction
from mmalign.evaluation.table import Table
from mmalign.records import Sample

__all__ = ["match_caption", "match_option", "match_yes_no", "tempcompass"]


def tempcompass(
    items: Sequence[Sample],
    predictions: Iterable[Prediction],
    *,
    profile: str = "strict",
    allow_missing: bool = False,
) -> Scores:
    """Accuracy per task, aspect and fine aspect; the headline is the mean over the tasks.

    Items carry `metadata` with `task`, `aspect` and `fine_aspect`. `official` applies the
    published rules; `strict` reads answers as for other benchmarks where no rule matches.
    """
    return score_table(_judge, items, predictions, profile, allow_missing)


def match_option(prediction: str, answer: str) -> bool | None:
    """The whole line, the bare letter, or the letter with `.` or `)`; None if it is none of these.

    Args:
        prediction: What the model wrote.
        answer: The right line, `A. text`.
    """
    if prediction == answer:
        return True
    letter = prediction[:1]
    if letter in ("A", "B", "C", "D") and prediction[1:2] in ("", ".", ")"):
        return letter == answer[0]
    return None


def match_yes_no(prediction: str, answer: str) -> bool | None:
    """The first letters are yes or no; None if they are not."""
    said = prediction.lower()
    for word in ("yes", "no"):
        if said.startswith(word):
            return word == answer
    return None


def match_caption(prediction: str, question: str, answer: str) -> bool | None:
    """The line, its text, its label or its index; None if it is none of these.

    Args:
        prediction: What the model wrote.
        question: A question, then one line per option, `Caption A: text`.
        answer: The right line.
    """
    for line in question.split("\n")[1:]:
        label, _, text = line.partition(": ")
        index = label.split()[-1] if label.split() else label
        forms = {line, text, label, index, f"{label}.", f"{index}."}
        if prediction in forms or (") " in prediction and prediction.split(") ")[1] == text):
            return line == answer
    return None


# The judge ----------------------------------------------------------------------------------


def _judge(answered: list[Answered], profile: Profile) -> Judged:
    rules: dict[str, Callable[[str, Sample, Profile], bool | None]] = {
        "multi-choice": _option,
        "yes_no": _yes_no,
        "caption_matching": _caption,
    }
    kept, right, matched = [], [], []
    num_left_out = 0
    for sample, text in answered:
        task = sample.metadata.get("task")
        if task == "captioning":
            num_left_out += 1
            continue
        if task not in rules:
            raise RecordError(
                f'sample "{sample.id}": the task is {task!r}, expected one of {", ".join(rules)}'
            )
        outcome = None if text is None else rules[task](text.strip(), sample, profile)
        kept.append(Answered(sample, text))
        right.append(bool(outcome))
        matched.append(outcome is not None)
    tasks = tuple(dict.fromkeys(str(answer.sample.metadata["task"]) for answer in kept))
    table = Table(
        units=tuple(answer.sample.id for answer in kept),
        strata=tuple(f"{a.sample.metadata['task']}/{a.sample.metadata['aspect']}" for a in kept),
        columns={
            "accuracy": np.array(right, dtype=np.float64),
            "match_rate": np.array(matched, dtype=np.float64),
        },
        means=("accuracy", "match_rate"),
        groups=_groups([answer.sample for answer in kept]),
        over=tasks,
    )
    num_unparsed = sum(
        not ok and answer.text is not None for ok, answer in zip(matched, kept, strict=True)
    )
    return Judged(table, "accuracy", num_unparsed, num_left_out)


def _groups(samples: Sequence[Sample]) -> dict[str, npt.NDArray[np.bool_]]:
    """Tasks, `task/aspect`, and `task/aspect/fine aspect` where that says more."""
    groups: dict[str, list[bool]] = {}
    for place, sample in enumerate(samples):
        about = sample.metadata
        names = [f"{about['task']}", f"{about['task']}/{about['aspect']}"]
        if about.get("fine_aspect") not in (None, about["aspect"]):
            names.append(f"{names[1]}/{about['fine_aspect']}")
        for name in names:
            groups.setdefault(name, [False] * len(samples))[place] = True
    return {name: np.array(inside) for name, inside in sorted(groups.items())}


def _option(text: str, sample: Sample, profile: Profile) -> bool | None:
    outcome = match_option(text, sample.answer or "")
    if outcome is None and profile == "strict" and sample.choices:
        letter = parse_letter(text, sample.choices)
        return None if letter is None else letter == (sample.answer or "")[:1]
    return outcome


def _yes_no(text: str, sample: Sample, profile: Profile) -> bool | None:
    if profile == "strict":
        said = parse_yes_no(text)
        return None if said is None else said == sample.answer
    return match_yes_no(text, sample.answer or "")


def _caption(text: str, sample: Sample, profile: Profile) -> bool | None:
    del profile  # one set of rules
    question = str(sample.metadata.get("question", sample.question))
    return match_caption(text, question, sample.answer or "")
