"""How vague answers are: by a judge that is asked once, with its failures counted."""

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmalign.errors import ConfigError, ModelTimeoutError, RecordError, StoreError
from mmalign.evaluation import (
    EvaluationReport,
    Prediction,
    evaluate,
    paired_bootstrap,
    read_predictions,
    score,
    score_judged,
)
from mmalign.records import Sample, user
from mmalign.testing.models import Call, FailingModel, ScriptedModel

ANSWERS = {
    "q0": "Drum.",
    "q1": "Some mood. A flute plays. It is a drum.",
    "q2": "There is music.",
    "q3": "",
}
LABELS = {"mood": "useless", "flute": "wrong", "music": "grounded"}


def samples() -> list[Sample]:
    return [
        Sample(
            id=name,
            messages=(user(f"Question {name}: what plays?"),),
            answer="drum",
            metadata={"question_type": "Audio" if name in ("q0", "q1") else "Visual"},
        )
        for name in ANSWERS
    ]


def answerer() -> ScriptedModel:
    return ScriptedModel(script=lambda call, _: ANSWERS[call.prompt.split()[1].rstrip(":")])


def rule(call: Call, _draw: int) -> str:
    numbered = re.findall(r"^(\d+): (.*)$", call.prompt, flags=re.MULTILINE)
    sentences = [
        {
            "i": int(i),
            "label": next((LABELS[word] for word in LABELS if word in text), "grounded"),
            "reason": "by rule",
        }
        for i, text in numbered
    ]
    answered = any("drum" in text.casefold() for _, text in numbered)
    return json.dumps({"sentences": sentences, "answered": answered})


def run(
    folder: Path,
    judge: ScriptedModel | None,
    model: ScriptedModel | None = None,
    asked: Sequence[Sample] | None = None,
    **settings: Any,
) -> EvaluationReport:
    return asyncio.run(
        evaluate(
            model or answerer(),
            samples() if asked is None else asked,
            out_folder=folder,
            name="before",
            num_draws=200,
            judge=judge,
            **{"metric": "ambiguity", **settings},
        )
    )


def test_rates_worked_by_hand(tmp_path: Path) -> None:
    """q0 is fine; q1 has 2 of 3 sentences ambiguous; q2 does not commit; q3 is empty."""
    judge = ScriptedModel(script=rule, name="judge@1")
    report = run(tmp_path, judge, beside="exact_match")
    assert report.metric == "specific"
    assert report.metrics == {
        "specific": 25.0,
        "ambiguity_rate": 75.0,
        "mean_ambiguity": pytest.approx(100 * (2 / 3 + 0 + 1) / 4),
        "accuracy": 25.0,
        "macro_accuracy": 25.0,
    }
    assert report.scores.subsets["Audio"]["ambiguity_rate"] == 50.0
    assert report.scores.subsets["Visual"] == {
        "specific": 0.0,
        "ambiguity_rate": 100.0,
        "mean_ambiguity": 50.0,
        "accuracy": 0.0,
    }
    assert set(report.intervals) >= {"specific", "accuracy", "Audio/ambiguity_rate"}
    assert len(judge.calls) == 3  # an empty answer is not sent
    assert "Question: Question q1: what plays?" in judge.calls[1].prompt
    assert "2: It is a drum." in judge.calls[1].prompt


def test_the_judge_is_asked_once_also_by_a_second_start(tmp_path: Path) -> None:
    first = run(tmp_path, ScriptedModel(script=rule), beside="exact_match")
    idle, unasked = ScriptedModel(script=rule), answerer()
    again = run(tmp_path, idle, unasked, beside="exact_match")
    assert (idle.calls, unasked.calls) == ([], [])
    assert again.metrics == first.metrics


def test_what_is_left_is_asked_after_a_fault(tmp_path: Path) -> None:
    broken = FailingModel(script=rule, errors=[ModelTimeoutError("slow")])
    with pytest.raises(ValueError, match='1 of 4 samples could not be asked: "q0"'):
        run(tmp_path, broken, max_concurrency=1)
    judge = FailingModel(script=rule)
    report = run(tmp_path, judge)
    assert [re.findall(r"Question (q\d)", call.prompt) for call in judge.calls] == [["q0"]]
    assert report.metrics["specific"] == 25.0


def test_replies_about_other_answers_are_not_taken(tmp_path: Path) -> None:
    run(tmp_path, ScriptedModel(script=rule))
    for path in tmp_path.glob("before.predictions.*"):
        path.unlink()
    changed = ScriptedModel(script=lambda _call, _draw: "Drum.")
    with pytest.raises(StoreError, match=r"judged\.jsonl: holds the answers of another evaluation"):
        run(tmp_path, ScriptedModel(script=rule), changed)


def test_a_judge_that_cannot_be_read_twice_counts_as_ambiguous_and_is_counted(
    tmp_path: Path,
) -> None:
    def unsure(call: Call, draw: int) -> str:
        about_first = "Question q0" in call.prompt or "cannot be used" in call.prompt
        return "no JSON" if about_first else rule(call, draw)

    judge = ScriptedModel(script=unsure)
    report = run(tmp_path, judge)
    assert len(judge.calls) == 4  # q0 twice
    assert report.scores.unparsed == 1
    assert report.metrics["ambiguity_rate"] == 100.0
    assert json.loads((tmp_path / "before.json").read_text())["unparsed"] == 1


def test_files_of_two_arms_are_compared(tmp_path: Path) -> None:
    run(tmp_path / "a", ScriptedModel(script=rule), beside="exact_match")
    always = ScriptedModel(script=lambda _call, _draw: "Drum.")
    run(tmp_path / "b", ScriptedModel(script=rule), always, beside="exact_match")
    arms = [
        score_judged(
            samples(),
            read_predictions(tmp_path / arm / "before.predictions.jsonl"),
            read_predictions(tmp_path / arm / "before.judged.jsonl"),
            metric="ambiguity",
            beside="exact_match",
        )
        for arm in ("a", "b")
    ]
    for metric in ("specific", "accuracy"):
        gap = paired_bootstrap([arms[0].table], [arms[1].table], metric)
        assert gap.value == 75.0
        assert gap.low > 0


def test_missing_answers_count_as_ambiguous_on_demand() -> None:
    fine = Prediction(id="q0", prediction=rule(Call("0: Drum.", 1, None), 0))
    scores = score(samples(), [fine], metric="ambiguity", allow_missing=True)
    assert scores.metrics["specific"] == 25.0
    assert scores.missing == ("q1", "q2", "q3")


@pytest.mark.parametrize(
    ("settings", "has_judge", "said"),
    [
        ({}, False, "add evaluation.judge"),
        ({"metric": "exact_match"}, True, "asks no judge"),
        ({"metric": "exact_match", "beside": "exact_match"}, False, "asks no judge"),
        ({"beside": "no_such"}, True, "no metric 'no_such'"),
    ],
)
def test_metric_and_judge_belong_together(
    settings: dict[str, Any], has_judge: bool, said: str, tmp_path: Path
) -> None:
    model = answerer()
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, ScriptedModel(script=rule) if has_judge else None, model, **settings)
    assert model.calls == []


def test_a_metric_of_pairs_does_not_stand_beside(tmp_path: Path) -> None:
    asked = [
        Sample(
            id=role,
            group_id="g",
            messages=(user(f"Question {name}: is it?"),),
            answer=gold,
            metadata={"role": role},
        )
        for role, name, gold in (("basic", "q0", "yes"), ("hallucinated", "q1", "no"))
    ]
    with pytest.raises(ConfigError, match="beside: videohallucer counts 1 units"):
        run(tmp_path, ScriptedModel(script=rule), asked=asked, beside="videohallucer")


def test_a_question_without_gold_answer_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    model = answerer()
    asked = [samples()[0].model_copy(update={"answer": None})]
    with pytest.raises(RecordError, match='"q0": has no gold answer'):
        run(tmp_path, ScriptedModel(script=rule), model, asked)
    assert model.calls == []
