"""NQ, HotpotQA and BFCL in their published forms."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmalign.api import ConfigError, RecordError
from mmalign.datasets import bfcl, hotpotqa, nq
from mmalign.evaluation import Prediction, score
from mmalign.testing.packages import require_package

ROW = {"id": "test_0", "question": "who?", "golden_answers": ["Ann", "Ann Lee"]}
FUNCTION = {
    "name": "geo.area",
    "parameters": {
        "type": "dict",
        "properties": {"base": {"type": "integer"}, "unit": {"type": "string"}},
        "required": ["base"],
    },
}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bfcl_folder(folder: Path, category: str, gold: Sequence[object] | None) -> Path:
    question = {"id": "q_0", "question": [[{"role": "user", "content": "Area of base 4?"}]]}
    lines(folder / f"BFCL_v4_{category}.json", {**question, "function": [FUNCTION]})
    if gold is not None:
        (folder / "possible_answer").mkdir()
        answer = {"id": "q_0", "ground_truth": gold}
        lines(folder / "possible_answer" / f"BFCL_v4_{category}.json", answer)
    return folder


def test_questions_have_several_gold_answers(tmp_path: Path) -> None:
    row = {**ROW, "metadata": {"type": "bridge"}}
    path = lines(tmp_path / "dev.jsonl", row)
    (plain,), (typed,) = nq.read(path), hotpotqa.read(path)
    assert (plain.id, plain.question, plain.answer) == ("nq-test_0", "who?", "Ann")
    assert plain.metadata == {"dataset": "nq", "golden_answers": ["Ann", "Ann Lee"]}
    assert (typed.id, typed.metadata["question_type"]) == ("hotpotqa-test_0", "bridge")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**ROW, "golden_answers": []}], r":1: field 'golden_answers' is \[\], expected a list"),
        ([{**ROW, "question": ""}], ":1: field 'question' is ''"),
        ([ROW, ROW], ":2: id 'test_0' comes twice"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        list(nq.read(lines(tmp_path / "test.jsonl", *rows)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"test\.jsonl: no such file; give file"):
        list(nq.read(tmp_path / "test.jsonl"))


def test_bfcl_asks_for_calls_and_knows_a_right_one(tmp_path: Path) -> None:
    gold = [{"geo.area": {"base": [4], "unit": ["cm", ""]}}]
    (sample,) = bfcl.read(["simple_python"], root=bfcl_folder(tmp_path, "simple_python", gold))
    assert sample.answer == "[geo.area(base=4)]"
    assert '"name": "geo.area"' in sample.messages[0].text
    assert sample.question == "Area of base 4?"
    assert sample.metadata["expects"] == "calls"


def test_bfcl_expects_no_call_where_none_helps(tmp_path: Path) -> None:
    (sample,) = bfcl.read(["irrelevance"], root=bfcl_folder(tmp_path, "irrelevance", None))
    assert (sample.answer, sample.metadata["expects"]) == (None, "no_call")


def test_bfcl_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found category 'java', expected one of simple_python"):
        list(bfcl.read(["java"], root=tmp_path))
    with pytest.raises(ConfigError, match="no such file; root must hold"):
        list(bfcl.read(["multiple"], root=tmp_path))


def test_bfcl_says_which_question_has_no_gold_answer(tmp_path: Path) -> None:
    folder = bfcl_folder(tmp_path, "parallel", [])
    lines(folder / "possible_answer" / "BFCL_v4_parallel.json", {"id": "x", "ground_truth": []})
    with pytest.raises(RecordError, match="question 'q_0' has no gold answer"):
        list(bfcl.read(["parallel"], root=folder))


@pytest.mark.real
def test_gold_calls_of_the_package_are_right() -> None:
    """But for those few whose own gold answers contradict the function that they call."""
    require_package("bfcl-eval")
    samples = list(bfcl.read(bfcl.CATEGORIES))
    assert len(samples) > 3000
    called = [sample for sample in samples if sample.answer]
    answers = [Prediction(id=sample.id, prediction=sample.answer or "") for sample in called]
    assert score(called, answers, metric="bfcl").metrics["accuracy"] > 99.0
