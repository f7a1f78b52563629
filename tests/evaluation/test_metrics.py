"""Metrics, worked by hand on a few made-up questions."""

from collections.abc import Mapping
from typing import Any

import pytest

from mmalign.errors import ConfigError, MissingPredictionsError, RecordError
from mmalign.evaluation import (
    METRICS,
    Prediction,
    Scores,
    score,
)
from mmalign.evaluation.tempcompass import match_caption, match_option, match_yes_no
from mmalign.records import Sample, user


def answers(texts: Mapping[str, str]) -> list[Prediction]:
    return [Prediction(id=key, prediction=text) for key, text in texts.items()]


def question(name: str, **fields: Any) -> Sample:
    return Sample(id=name, messages=(user("?"),), **fields)


SUBSETS = ("object_relation", "temporal", "semantic_detail", "factual", "nonfactual")


def twins() -> list[Sample]:
    """Two pairs in each of five subsets."""
    return [
        question(
            f"{subset}/{pair}/{role}",
            group_id=f"{subset}/{pair}",
            answer=gold,
            metadata={"question_type": subset, "role": role},
        )
        for subset in SUBSETS
        for pair in (0, 1)
        for role, gold in (("basic", "yes"), ("hallucinated", "no"))
    ]


def pairs(texts: Mapping[str, str], **settings: Any) -> Scores:
    """Gold answers but for those given."""
    gold = {item.id: str(item.answer) for item in twins()}
    return score(twins(), answers({**gold, **texts}), metric="videohallucer", **settings)


def test_gold_is_100_and_constant_answers_are_0() -> None:
    assert pairs({}).metrics == {
        "overall": 100.0,
        "basic": 100.0,
        "hallucinated": 100.0,
        "yes_difference": 0.0,
        "false_positive_ratio": 0.0,
    }
    always_yes = pairs({item.id: "Yes." for item in twins()}).metrics
    assert always_yes == {
        "overall": 0.0,
        "basic": 100.0,
        "hallucinated": 0.0,
        "yes_difference": 50.0,
        "false_positive_ratio": 100.0,
    }
    always_no = pairs({item.id: "no" for item in twins()}).metrics
    assert (always_no["overall"], always_no["yes_difference"]) == (0.0, -50.0)
    assert always_no["false_positive_ratio"] == 0.0


def test_pairs_by_hand() -> None:
    """Wrong: one basic and one hallucinated of a pair each in the first subset, one twin in the
    second. Accuracies per subset: overall 0, 50, 100, 100, 100; basic 50, 100 ...; hallucinated
    50, 50, 100 ... The mean of the first is 70. Yes: 10 gold, 10 - 1 + 2 said, of 20. Two of the
    three wrong answers are yes to a no-question."""
    scores = pairs(
        {
            "object_relation/0/basic": "no",
            "object_relation/1/hallucinated": "yes",
            "temporal/0/hallucinated": "Yes, it is.",
        }
    )
    assert scores.metrics == pytest.approx(
        {
            "overall": 70.0,
            "basic": 90.0,
            "hallucinated": 80.0,
            "yes_difference": 5.0,
            "false_positive_ratio": 200 / 3,
        }
    )
    assert scores.subsets["object_relation"] == {
        "overall": 0.0,
        "basic": 50.0,
        "hallucinated": 50.0,
    }
    assert scores.subsets["temporal"]["overall"] == 50.0
    assert scores.counts == {"items": 20, "units": 10, **{f"items/{name}": 4 for name in SUBSETS}}
    assert scores.main == "overall"


def test_mean_over_subsets_is_unweighted() -> None:
    """Three pairs of one subset, all wrong, and one of another, right: 50, not 25."""
    items = [
        question(
            f"{pair}/{role}",
            group_id=str(pair),
            answer=gold,
            metadata={"question_type": "small" if pair == 3 else "large", "role": role},
        )
        for pair in range(4)
        for role, gold in (("basic", "yes"), ("hallucinated", "no"))
    ]
    texts = {item.id: str(item.answer) if item.group_id == "3" else "yes" for item in items}
    assert score(items, answers(texts), metric="videohallucer").metrics["overall"] == 50.0


def test_echo_of_the_instruction_is_right_officially_and_unreadable_strictly() -> None:
    echo = {item.id: "either yes or no" for item in twins()}
    official = pairs(echo, profile="official")
    assert (official.metrics["overall"], official.unparsed) == (100.0, 0)
    strict = pairs(echo)
    assert (strict.metrics["overall"], strict.unparsed) == (0.0, 20)


def test_open_questions_are_no_pairs_and_are_counted() -> None:
    items = [*twins(), question("open", answer="red", metadata={"role": "open"})]
    gold = {item.id: str(item.answer) for item in items}
    scores = score(items, answers(gold), metric="videohallucer")
    assert (scores.counts["items"], scores.counts["left_out"]) == (20, 1)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (twins()[:1], r'group "object_relation/0": has no hallucinated question'),
        (
            [twins()[0], twins()[1].model_copy(update={"metadata": twins()[0].metadata})],
            "are both its basic question",
        ),
        ([twins()[0].model_copy(update={"group_id": None})], "has a role but no group_id"),
        ([twins()[0].model_copy(update={"answer": "red"}), twins()[1]], "neither yes nor no"),
        ([question("open", metadata={"role": "open"})], "no items to score"),
    ],
)
def test_bad_pairs_are_named(items: list[Sample], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        score(items, [], metric="videohallucer", allow_missing=True)


def choice(name: str, index: int, subset: str = "count") -> Sample:
    return question(
        name,
        choices=("one", "two", "three"),
        answer_index=index,
        metadata={"question_type": subset},
    )


def test_multiple_choice_by_hand() -> None:
    """Right: a and c of four; tasks 1/1 and 1/3: micro 50, macro 66.7; d cannot be read."""
    items = [choice("a", 0, "shuffle"), choice("b", 0), choice("c", 2), choice("d", 1)]
    texts = {"a": "(A)", "b": "(B) two", "c": "The answer is (C)", "d": "perhaps"}
    scores = score(items, answers(texts), metric="multiple_choice")
    assert scores.metrics["accuracy"] == 50.0
    assert scores.metrics["macro_accuracy"] == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert scores.subsets["count"]["accuracy"] == pytest.approx(100 / 3)
    assert scores.unparsed == 1


def test_official_letter_is_the_first_of_any_word() -> None:
    """`The answer is (B)` reads as T."""
    items, texts = [choice("a", 1)], {"a": "The answer is (B)"}
    assert score(items, answers(texts), metric="tvbench").metrics["accuracy"] == 100.0
    official = score(items, answers(texts), metric="tvbench", profile="official")
    assert official.metrics["accuracy"] == 0.0


def test_options_without_gold_are_an_error() -> None:
    with pytest.raises(RecordError, match='sample "a": has no choices'):
        score([question("a", answer="x")], answers({"a": "x"}), metric="multiple_choice")
    odd = question("a", answer="x", choices=("y", "z"))
    with pytest.raises(RecordError, match="the answer 'x' is none of its choices"):
        score([odd], answers({"a": "x"}), metric="multiple_choice")
    named = question("a", answer="z", choices=("y", "z"))
    scores = score([named], answers({"a": "(B)"}), metric="multiple_choice")
    assert scores.metrics["accuracy"] == 100.0


def test_exact_match() -> None:
    items = [question(name, answer="Red ball") for name in "abc"]
    scores = score(items, answers({"a": "red ball.", "b": "ball", "c": ""}), metric="exact_match")
    assert scores.metrics["accuracy"] == pytest.approx(100 / 3)
    assert scores.unparsed == 1
    with pytest.raises(RecordError, match="has no gold answer"):
        score([question("a")], answers({"a": "x"}), metric="exact_match")


# Ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_missing_predictions_name_the_first_five(metric: str) -> None:
    items = [choice(f"q{number}", 0) for number in range(7)]
    with pytest.raises(
        MissingPredictionsError, match=r"6 of 7 samples .*: q1, q2, q3, q4, q5 and 1 more"
    ):
        score(items, answers({"q0": "A"}), metric=metric)


def test_missing_predictions_count_as_wrong_on_demand() -> None:
    items = [choice("a", 0), choice("b", 0)]
    scores = score(items, answers({"a": "A"}), metric="multiple_choice", allow_missing=True)
    assert scores.metrics["accuracy"] == 50.0
    assert scores.missing == ("b",)
    assert scores.unparsed == 0


def test_duplicate_and_foreign_ids_are_errors() -> None:
    item = choice("a", 0)
    twice = [*answers({"a": "A"}), *answers({"a": "B"})]
    with pytest.raises(RecordError, match='sample "a" has two predictions'):
        score([item], twice, metric="multiple_choice")
    with pytest.raises(RecordError, match='sample "a" comes twice'):
        score([item, item], answers({"a": "A"}), metric="multiple_choice")
    with pytest.raises(RecordError, match='answers "b", which is none of the 1 samples'):
        score([item], answers({"a": "A", "b": "A"}), metric="multiple_choice")
    with pytest.raises(ConfigError, match="no metric 'bleu'; known metrics: videohallucer"):
        score([item], answers({"a": "A"}), metric="bleu")


# TempCompass --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("B. moving up", True),
        ("A. moving down", False),
        ("B", True),
        ("A", False),
        ("B. up it goes", True),
        ("B) moving up", True),
        ("C) sideways", False),
        ("moving up", None),
        ("Best: B", None),
        ("", None),
    ],
)
def test_option_rules(prediction: str, expected: bool | None) -> None:
    assert match_option(prediction, "B. moving up") is expected


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [("Yes, it is", True), ("NO", False), ("Nothing", False), ("It is", None), ("", None)],
)
def test_yes_no_rules(prediction: str, expected: bool | None) -> None:
    assert match_yes_no(prediction, "yes") is expected


CAPTIONS = "Which one fits?\nCaption A: A cube rolls.\nCaption B: A cube jumps."


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("Caption B: A cube jumps.", True),
        ("Caption A: A cube rolls.", False),
        ("A cube jumps.", True),
        ("A cube rolls.", False),
        ("Caption B", True),
        ("Caption A.", False),
        ("B", True),
        ("A.", False),
        ("(B) A cube jumps.", True),
        ("(A) A cube rolls.", False),
        ("the second one", None),
        ("", None),
    ],
)
def test_caption_rules(prediction: str, expected: bool | None) -> None:
    assert match_caption(prediction, CAPTIONS, "Caption B: A cube jumps.") is expected


def temporal(name: str, task: str, aspect: str, fine: str, answer: str, **fields: Any) -> Sample:
    about = {"task": task, "aspect": aspect, "fine_aspect": fine, "question": CAPTIONS}
    return question(name, answer=answer, metadata=about, **fields)


def test_tempcompass_by_hand() -> None:
    """multi-choice 1 of 2, yes_no 1 of 1, caption matching 0 of 1: mean 50. The caption is left
    out and one answer fits no rule: 3 of 4 matched, but the mean over tasks is 2/3 + ..."""
    options = {"choices": ("left", "right"), "answer_index": 0}
    items = [
        temporal("a", "multi-choice", "speed", "absolute speed", "A. left", **options),
        temporal("b", "multi-choice", "order", "order", "A. left", **options),
        temporal("c", "yes_no", "speed", "relative speed", "no"),
        temporal("d", "caption_matching", "action", "fine-grained action", "Caption B: x"),
        question("e", metadata={"task": "captioning", "aspect": "speed"}),
    ]
    texts = {"a": "A", "b": "who knows", "c": "No.", "d": "A", "e": "A cube."}
    scores = score(items, answers(texts), metric="tempcompass")
    assert scores.metrics == pytest.approx({"accuracy": 50.0, "match_rate": 250 / 3})
    assert scores.subsets["multi-choice"]["accuracy"] == 50.0
    assert scores.subsets["multi-choice/speed/absolute speed"]["accuracy"] == 100.0
    assert scores.subsets["multi-choice/order"]["accuracy"] == 0.0
    assert "multi-choice/order/order" not in scores.subsets
    assert (scores.unparsed, scores.counts["left_out"]) == (1, 1)


def test_strict_profile_reads_what_no_rule_matches() -> None:
    options = {"choices": ("left", "right"), "answer_index": 0}
    items = [temporal("a", "multi-choice", "speed", "absolute speed", "A. left", **options)]
    texts = answers({"a": "The answer is (A)"})
    assert score(items, texts, metric="tempcompass").metrics["accuracy"] == 100.0
    official = score(items, texts, metric="tempcompass", profile="official")
    assert (official.metrics["accuracy"], official.unparsed) == (0.0, 1)


def test_unknown_task_is_an_error() -> None:
    with pytest.raises(RecordError, match='sample "a": the task is None, expected one of'):
        score([question("a")], answers({"a": "x"}), metric="tempcompass")
