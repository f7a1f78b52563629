"""Readers of published benchmarks, on made-up files of the same form."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmalign.datasets import oss_instruct, tempcompass, tvbench, videohallucer
from mmalign.errors import ConfigError, RecordError
from mmalign.evaluation import Prediction, score


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


# VideoHallucer ------------------------------------------------------------------------------


def twins(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "basic": {"video": f"{number}.mp4", "question": f"Cube {number}?", "answer": "yes"},
        "hallucination": {"video": f"{number}b.mp4", "question": f"Cone {number}?", "answer": "no"},
        "type": "made-up",
        **changes,
    }


@pytest.fixture
def hallucer(tmp_path: Path) -> Path:
    for subset in videohallucer.SUBSETS:
        write(tmp_path / subset / f"{subset}.json", [twins(0), twins(1)])
    return tmp_path


def test_videohallucer_yields_both_questions_of_each_pair(hallucer: Path) -> None:
    samples = list(videohallucer.read(hallucer))
    assert len(samples) == 20
    basic, hallucinated = samples[2:4]
    assert basic.id == "object_relation/0001/basic"
    assert basic.group_id == hallucinated.group_id == "object_relation/0001"
    assert basic.question == "Cube 1?\nAnswer the question using 'yes' or 'no'."
    assert (basic.answer, hallucinated.answer) == ("yes", "no")
    assert hallucinated.media[0].uri == str(hallucer / "object_relation/videos/1b.mp4")
    assert hallucinated.metadata["role"] == "hallucinated"
    assert len(list(videohallucer.read(hallucer, subsets=["temporal"], num_groups=1))) == 2


def test_videohallucer_is_scored_from_its_reader(hallucer: Path) -> None:
    """Of ten pairs one basic and another pair's hallucinated question are wrong: per subset 50,
    50, 100, 100, 100."""
    samples = list(videohallucer.read(str(hallucer)))
    wrong = {"object_relation/0000/basic": "no", "temporal/0001/hallucinated": "yes"}
    predictions = [Prediction(id=s.id, prediction=wrong.get(s.id, str(s.answer))) for s in samples]
    scores = score(samples, predictions, metric="videohallucer")
    assert scores.metrics["overall"] == 80.0
    assert scores.metrics["basic"] == scores.metrics["hallucinated"] == 90.0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"basic": {}}, "index 1: expected an object with basic and hallucination"),
        (
            twins(1, basic={"question": "?", "answer": "yes"}),
            "index 1, basic: field 'video' is None",
        ),
        (
            twins(1, basic={"video": "a", "question": "?", "answer": "no"}),
            "index 1, basic: the answer is 'no', expected 'yes'",
        ),
        (twins(1, hallucination="?"), "index 1, hallucination: is a str, expected an object"),
    ],
)
def test_bad_pair_is_named(tmp_path: Path, bad: Any, message: str) -> None:
    write(tmp_path / "temporal" / "temporal.json", [twins(0), bad])
    with pytest.raises(RecordError, match=rf"temporal\.json: {message}"):
        list(videohallucer.read(tmp_path, subsets=["temporal"]))


def test_wrong_root_and_broken_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"object_relation\.json: no such file; root must be"):
        list(videohallucer.read(tmp_path))
    path = write(tmp_path / "temporal" / "temporal.json", {})
    with pytest.raises(RecordError, match="holds a dict, expected a list"):
        list(videohallucer.read(tmp_path, subsets=["temporal"]))
    path.write_text("[")
    with pytest.raises(RecordError, match="not valid JSON"):
        list(videohallucer.read(tmp_path, subsets=["temporal"]))


# TVBench ------------------------------------------------------------------------------------

COUNT = {
    "video": "a.mp4",
    "question": "How often does the cube turn?",
    "candidates": ["1", "2", "3"],
    "answer": "2",
}


def test_tvbench_yields_options_and_ranges(tmp_path: Path) -> None:
    write(tmp_path / "json" / "action_count.json", [COUNT])
    write(tmp_path / "json" / "action_sequence.json", [{**COUNT, "start": 1.5, "end": 4}])
    whole, part = tvbench.read(tmp_path, tasks=["action_count", "action_sequence"])
    assert whole.question == (
        "Question: How often does the cube turn?\nOptions:\n(A) 1\n(B) 2\n(C) 3\n"
        "Only give the best option."
    )
    assert (whole.answer, whole.answer_index, whole.choices) == ("2", 1, ("1", "2", "3"))
    assert whole.media[0].uri == str(tmp_path / "video/action_count/a.mp4")
    assert whole.media[0].start_s is None
    assert (part.media[0].start_s, part.media[0].end_s) == (1.5, 4.0)
    assert part.metadata["question_type"] == "action_sequence"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "7"}, "the answer '7' is none of"),
        ({"candidates": ["2", "2"]}, "two candidates are the same"),
        ({"candidates": ["2"]}, "expected a list of two or more"),
        ({"question": " "}, "field 'question' is ' '"),
        ({"start": 4.0, "end": 4.0}, "are no range in seconds"),
    ],
)
def test_bad_question_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    item = {**COUNT, "start": 0.0, "end": 2.0}
    write(tmp_path / "json" / "action_sequence.json", [item, {**item, **changes}])
    with pytest.raises(RecordError, match=rf"action_sequence\.json: index 1: .*{message}"):
        list(tvbench.read(tmp_path, tasks=["action_sequence"]))


def test_tvbench_frames_round_halves_to_even() -> None:
    """Whole clip of ten frames, n = 4: seg 2.25; 1.125 + round(0, 2.25, 4.5, 6.75), 4.5 to 4."""
    assert tvbench.frame_indices(10, 25.0, 4) == [1, 3, 5, 8]


def test_tvbench_frames_of_a_part_are_clipped_to_the_clip() -> None:
    """s = 10 and e = min(50, 39) = 39: seg 7.25; 13.625 + round(0, 7.25, 14.5, 21.75)."""
    assert tvbench.frame_indices(40, 10.0, 4, start_s=1.0, end_s=5.0) == [13, 20, 27, 35]


# TempCompass --------------------------------------------------------------------------------

OPTIONS = "Where does it go?\nA. left\nB. right"
CAPTIONS = "Which fits?\nSentence A: It goes.\nSentence B: It stays."


@pytest.fixture
def compass(tmp_path: Path) -> Path:
    def questions(task: str, question: str, answer: str | None) -> None:
        item = {"question": question} | ({} if answer is None else {"answer": answer})
        write(
            tmp_path / "questions" / f"{task}.json",
            {"7": {"direction": [item], "order": [item, item]}},
        )

    questions("multi-choice", OPTIONS, "B. right")
    questions("yes_no", "Does it go?", "yes")
    questions("caption_matching", CAPTIONS, "Sentence A: It goes.")
    questions("captioning", "Describe it. Generated Caption:", None)
    dims = {"direction": {"type": "object motion"}, "order": None, "speed": None}
    write(tmp_path / "meta_info.json", {"7": {"eval_dim": dims, "content": []}})
    return tmp_path


def test_tempcompass_yields_four_tasks(compass: Path) -> None:
    samples = {sample.id: sample for sample in tempcompass.read(compass)}
    assert len(samples) == 12
    option = samples["multi-choice/7/direction/0"]
    assert option.question == f"{OPTIONS}\nPlease directly give the best option:"
    assert (option.choices, option.answer_index) == (("left", "right"), 1)
    assert option.metadata["question"] == OPTIONS
    assert option.media[0].uri == str(compass / "videos/7.mp4")
    caption = samples["caption_matching/7/order/1"]
    assert (caption.choices, caption.answer_index) == (("It goes.", "It stays."), 0)
    assert samples["yes_no/7/order/0"].answer == "yes"
    assert samples["captioning/7/order/0"].answer is None


def test_fine_aspect_is_looked_up_but_for_order(compass: Path) -> None:
    """The order aspect has no entry in meta_info.json."""
    fine = {s.metadata["aspect"]: s.metadata["fine_aspect"] for s in tempcompass.read(compass)}
    assert fine == {"direction": "object motion", "order": "order"}


def test_tempcompass_is_scored_from_its_reader(compass: Path) -> None:
    samples = list(tempcompass.read(compass))
    predictions = [Prediction(id=s.id, prediction=s.answer or "It goes.") for s in samples]
    scores = score(samples, predictions, metric="tempcompass", profile="official")
    assert scores.metrics == {"accuracy": 100.0, "match_rate": 100.0}
    assert scores.counts["left_out"] == 3
    assert scores.subsets["yes_no/direction/object motion"]["accuracy"] == 100.0


@pytest.mark.parametrize(
    ("task", "value", "message"),
    [
        ("yes_no", {"7": {"order": [{"question": "?", "answer": "maybe"}]}}, "expected yes or no"),
        ("yes_no", {"7": {"mood": []}}, "unknown aspect"),
        ("yes_no", {"7": {"speed": [{"question": "?", "answer": "no"}]}}, "eval_dim has no type"),
        (
            "multi-choice",
            {"7": {"order": [{"question": OPTIONS, "answer": "C. up"}]}},
            "7, order, index 0: the answer 'C. up' is none of the lines",
        ),
        ("captioning", {"7": {"order": [{"question": ""}]}}, "field 'question' is ''"),
    ],
)
def test_bad_temporal_question_is_named(compass: Path, task: str, value: Any, message: str) -> None:
    write(compass / "questions" / f"{task}.json", value)
    with pytest.raises(RecordError, match=message):
        list(tempcompass.read(compass, tasks=[task]))


# OSS-Instruct ---------------------------------------------------------------------------------


def oss_lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_oss_instruct_yields_the_problems_of_one_language(tmp_path: Path) -> None:
    rows = [{"lang": lang, "problem": f"Write {lang}. ", "solution": "x"} for lang in "abab"]
    path = oss_lines(tmp_path / "oss.jsonl", *rows)
    samples = list(oss_instruct.read(path, language="b"))
    assert [sample.id for sample in samples] == ["oss-instruct/000002", "oss-instruct/000004"]
    assert samples[0].question == "Write b."
    assert samples[0].answer is None
    assert len(list(oss_instruct.read(path, language="a", num_samples=1))) == 1


@pytest.mark.parametrize("row", [[1], {"lang": "python"}, {"lang": "python", "problem": " "}])
def test_oss_instruct_names_the_line_that_is_no_problem(tmp_path: Path, row: object) -> None:
    good = {"lang": "python", "problem": "Write it."}
    path = oss_lines(tmp_path / "oss.jsonl", good, row)
    with pytest.raises(RecordError, match=r"oss\.jsonl:2: "):
        list(oss_instruct.read(path))


def test_oss_instruct_names_lines_that_are_no_json_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("problem\n")
    with pytest.raises(RecordError, match=r"bad\.jsonl:1: expected a JSON object: 'problem"):
        list(oss_instruct.read(tmp_path / "bad.jsonl"))
    with pytest.raises(ConfigError, match=r"none\.jsonl: no such file"):
        list(oss_instruct.read(tmp_path / "none.jsonl"))
