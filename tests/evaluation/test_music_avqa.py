"""MUSIC-AVQA's metric: one class named, per type and per modality."""

from typing import Any

import pytest

from mmalign.errors import RecordError
from mmalign.evaluation import METRICS, Prediction, Scores, score
from mmalign.evaluation.music_avqa import CLASSES, parse_class
from mmalign.records import Sample, user


def test_there_are_42_classes() -> None:
    assert len(set(CLASSES)) == len(CLASSES) == 42


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("violin", "violin"),
        ("Acoustic_Guitar.", "acoustic guitar"),
        ("It is the acoustic guitar on stage.", "acoustic guitar"),
        ("3", "three"),
        ("there are 3 of them", "three"),
        ("10", "ten"),
        ("12", "more than ten"),
        ("more than ten", "more than ten"),
        ("There are more than ten instruments", "more than ten"),
        ("two violins", None),
        ("two", "two"),
        ("the violin, yes the VIOLIN", None),
        ("violins and a violin", "violin"),
        ("left or right", None),
        ("someone in the leftover", None),
        ("a guitar", None),
        ("tenor", None),
        ("", None),
    ],
)
def test_one_class_is_named_or_none(text: str, expected: str | None) -> None:
    assert parse_class(text, CLASSES) == expected


def test_only_classes_that_can_be_meant_are_looked_for() -> None:
    text = "the ring on the left plays first ."
    assert parse_class(text, ("left", "middle", "right")) == "left"
    assert parse_class(text, ("circle", "ring")) == "ring"
    assert parse_class(text, ("circle", "ring", "left")) is None


def item(name: str, kind: str, answer: str, **known: Any) -> Sample:
    metadata = {"question_type": kind, **known}
    return Sample(id=name, messages=(user("?"),), answer=answer, metadata=metadata)


ITEMS = [
    item("a", "Audio/Counting", "two"),
    item("b", "Audio/Counting", "yes"),
    item("c", "Audio/Comparative", "no"),
    item("d", "Visual/Location", "left"),
    item("e", "Audio-Visual/Temporal", "piano"),
]


def scored(**texts: str) -> Scores:
    gold = {one.id: str(one.answer) for one in ITEMS} | texts
    predictions = [Prediction(id=key, prediction=text) for key, text in gold.items()]
    return score(ITEMS, predictions, metric="music_avqa")


def test_types_and_modalities_by_hand() -> None:
    """Wrong: one of two countings, and the location, which cannot be read. Audio 2 of 3, all 3 of
    5; modalities are pooled over their types, not averaged."""
    scores = scored(a="two violins", d="over there", c="No, it is softer.")
    assert scores.metrics == {"accuracy": 60.0}
    by_part = {name: values["accuracy"] for name, values in scores.subsets.items()}
    assert by_part == pytest.approx(
        {
            "Audio": 200 / 3,
            "Visual": 0.0,
            "Audio-Visual": 100.0,
            "Audio/Counting": 50.0,
            "Audio/Comparative": 100.0,
            "Visual/Location": 0.0,
            "Audio-Visual/Temporal": 100.0,
        }
    )
    assert scores.unparsed == 2
    assert (scores.main, scores.counts["items/Audio"]) == ("accuracy", 3)


def test_yes_and_no_are_read_as_everywhere() -> None:
    assert scored(b="Yes, two of them.").metrics["accuracy"] == 100.0
    assert scored(b="yes or no, who knows").metrics["accuracy"] == 100.0
    assert scored(b="it may be yes or no").unparsed == 1


def test_the_short_answer_is_gold_where_there_is_one() -> None:
    long = item(
        "a",
        "Audio-Visual/Location",
        "the ring on the left plays .",
        answer_short="left",
        answer_classes=["left", "middle", "right"],
    )
    predictions = [Prediction(id="a", prediction="the ring on the left plays .")]
    assert score([long], predictions, metric="music_avqa").metrics["accuracy"] == 100.0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (item("a", "Audio/Counting", "banana"), "the gold answer 'banana' is none of the 42"),
        (
            item("a", "Visual/Location", "ring", answer_classes=["left"]),
            "the gold answer 'ring' is none of the 1",
        ),
        (item("a", "Counting", "two"), "the question type is 'Counting', expected modality"),
        (item("a", "Audio/", "two"), "the question type is 'Audio/', expected modality"),
    ],
)
def test_bad_items_are_named(bad: Sample, message: str) -> None:
    with pytest.raises(RecordError, match=f'sample "a": {message}'):
        score([bad], [], metric="music_avqa", allow_missing=True)


def test_both_metrics_can_be_named_in_a_recipe() -> None:
    assert {"music_avqa", "avqa"} <= METRICS.keys()
