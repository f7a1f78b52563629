"""BFCL's comparison of calls, and the metrics of answers in words and in calls."""

import json
from typing import Any

import pytest

from mmalign.errors import RecordError
from mmalign.evaluation import Prediction, score
from mmalign.evaluation.function_calls import FunctionCall, call_problem, calls_problem, read_calls
from mmalign.records import Sample, user

FUNCTION = {
    "name": "f",
    "parameters": {
        "properties": {
            "count": {"type": "integer"},
            "share": {"type": "float"},
            "name": {"type": "string"},
            "flag": {"type": "boolean"},
            "items": {"type": "array", "items": {"type": "string"}},
            "options": {"type": "dict"},
        },
        "required": [],
    },
}


def problem(name: str, value: Any, *acceptable: Any) -> str | None:
    return call_problem(FunctionCall("f", {name: value}), {name: list(acceptable)}, FUNCTION)


@pytest.mark.parametrize(
    ("name", "value", "acceptable"),
    [
        ("name", "April 1, 2024", "april12024"),
        ("name", "2*x^2", "2x2"),
        ("name", "-", ""),
        ("name", "it's", 'it"s'),
        ("share", 3, 3.0),
        ("items", ["A b", "c"], ["ab", "C"]),
        ("options", {"k": "X"}, {"k": ["x"], "more": [1, ""]}),
        ("count", "n", "n"),  # a variable, as the gold one
    ],
)
def test_right_values(name: str, value: Any, acceptable: Any) -> None:
    assert problem(name, value, acceptable) is None


@pytest.mark.parametrize(
    ("name", "value", "acceptable"),
    [
        ("count", 3.0, 3),
        ("count", True, 1),
        ("flag", 1, True),
        ("count", "3", 3),
        ("items", ["c", "ab"], ["ab", "c"]),
        ("items", ["ab"], ["ab", "c"]),
        ("options", {}, {"k": ["x"]}),
        ("options", {"k": "x", "z": 1}, {"k": ["x"]}),
        ("name", "Paris", "London"),
    ],
)
def test_wrong_values(name: str, value: Any, acceptable: Any) -> None:
    assert problem(name, value, acceptable) is not None


def test_arguments_that_may_be_left_out() -> None:
    call = FunctionCall("f", {"count": 1})
    assert call_problem(call, {"count": [1], "name": ["x", ""]}, FUNCTION) is None
    assert call_problem(call, {"count": [1], "name": ["x"]}, FUNCTION) == "lacks name"
    assert call_problem(call, {}, FUNCTION) == "has an unexpected count"


def test_parallel_calls_come_in_any_order_but_all_of_them() -> None:
    gold = [{"f": {"count": [1]}}, {"f": {"count": [2]}}]
    calls = [FunctionCall("f", {"count": 2}), FunctionCall("f", {"count": 1})]
    assert calls_problem(calls, gold, [FUNCTION]) is None
    assert calls_problem(calls[:1], gold, [FUNCTION]) == "1 calls, expected 2"
    assert "no call fits f" in str(calls_problem([calls[0], calls[0]], gold, [FUNCTION]))


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[a.b(x=1, y='z')]", [FunctionCall("a.b", {"x": 1, "y": "z"})]),
        ("f(x=-1.5, y=[1, (2, 3)], z={'k': True})",
         [FunctionCall("f", {"x": -1.5, "y": [1, [2, 3]], "z": {"k": True}})]),
        ("```python\n[f(x=n)]\n```", [FunctionCall("f", {"x": "n"})]),
        ("[]", []),
        ("I cannot help.", None),
        ("[f(1)]", None),
        ("[f(**x)]", None),
        ("[3]", None),
    ],
)  # fmt: skip
def test_reading_calls(text: str, calls: list[FunctionCall] | None) -> None:
    assert read_calls(text) == calls


def question(number: int, expects: str, gold: list[Any]) -> Sample:
    return Sample(
        id=f"q{number}",
        messages=(user("?"),),
        metadata={
            "question_type": expects,
            "expects": expects,
            "functions": json.dumps([FUNCTION]),
            "gold_calls": json.dumps(gold),
        },
    )


def test_bfcl_counts_calls_and_silence() -> None:
    items = [
        question(0, "calls", [{"f": {"count": [1]}}]),
        question(1, "calls", [{"f": {"count": [1]}}]),
        question(2, "no_call", []),
        question(3, "any_call", []),
    ]
    said = ["[f(count=1)]", "what?", "None of them helps.", "f(count=7)"]
    answers = [Prediction(id=f"q{k}", prediction=text) for k, text in enumerate(said)]
    found = score(items, answers, metric="bfcl")
    assert found.metrics == {"accuracy": 75.0, "macro_accuracy": pytest.approx(250 / 3)}
    assert found.unparsed == 1


def test_bfcl_refuses_other_samples() -> None:
    with pytest.raises(RecordError, match='"x": metadata needs expects, gold_calls and functions'):
        score([Sample(id="x", messages=(user("?"),))], [], metric="bfcl", allow_missing=True)


def test_question_answering_takes_the_best_of_the_gold_answers() -> None:
    """F1 of `the cat sat on mat` and `A cat sat` is 2/3, from the metric's own vectors."""
    items = [
        Sample(id="a", messages=(user("?"),), answer="A cat sat"),
        Sample(
            id="b", messages=(user("?"),), answer="x", metadata={"golden_answers": ["x", "y z"]}
        ),
    ]
    answers = [
        Prediction(id="a", prediction="the cat sat on mat"),
        Prediction(id="b", prediction="I think <answer>no</answer> <answer> Y, z! </answer>"),
    ]
    found = score(items, answers, metric="question_answering").metrics
    assert found["exact_match"] == 50.0
    assert found["f1"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert found["sub_exact_match"] == 100.0


def test_question_answering_refuses_an_empty_gold_answer() -> None:
    item = Sample(id="a", messages=(user("?"),), answer="the")
    with pytest.raises(RecordError, match='"a": gold answer'):
        score([item], [], metric="question_answering", allow_missing=True)
