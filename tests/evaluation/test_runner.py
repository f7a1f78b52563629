"""A benchmark is asked once, resumed, refused when it is another's, and scored."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmalign.errors import (
    ConfigError,
    MediaCorruptError,
    MissingPredictionsError,
    ModelTimeoutError,
    RecordError,
    StoreError,
)
from mmalign.evaluation import EvaluationReport, evaluate, score
from mmalign.evaluation.answers import read_predictions
from mmalign.models.protocol import Sampling
from mmalign.records import MediaRef, Sample, user
from mmalign.testing.models import Call, ScriptedModel

CLIP = MediaRef(kind="video", uri="a.mp4")


def pairs(num: int = 4) -> list[Sample]:
    return [
        Sample(
            id=f"{number}/{role}",
            group_id=str(number),
            messages=(user(f"{number} {role}", CLIP),),
            answer=gold,
            metadata={
                "question_type": "colour" if number % 2 else "count",
                "role": role,
                "prompt_template": "shapes/1",
            },
        )
        for number in range(num)
        for role, gold in (("basic", "yes"), ("hallucinated", "no"))
    ]


def right_but_for_one(call: Call, _draw: int) -> str:
    if call.prompt == "0 hallucinated":
        return "Yes."
    return "Yes, it does." if "basic" in call.prompt else "no"


def model(**fields: Any) -> ScriptedModel:
    identity = {"frame_sampling": {"num_frames": 8}}
    return ScriptedModel(**{"script": right_but_for_one, "identity": identity, **fields})


def run(folder: Path, asked: ScriptedModel, **settings: Any) -> EvaluationReport:
    return asyncio.run(
        evaluate(
            asked,
            settings.pop("samples", pairs()),
            metric="videohallucer",
            out_folder=folder,
            name="before",
            num_draws=200,
            **settings,
        )
    )


def test_report_and_answers_are_written(tmp_path: Path) -> None:
    asked = model()
    report = run(tmp_path, asked)
    assert report.value == report.metrics["overall"] == 75.0
    assert sorted(call.prompt for call in asked.calls) == sorted(s.question for s in pairs())
    lines = [
        json.loads(x) for x in (tmp_path / "before.predictions.jsonl").read_text().splitlines()
    ]
    assert len(lines) == 8
    assert lines[0].keys() == {"id", "prediction", "frames", "seconds"}
    assert lines[0]["frames"] == 8
    found = json.loads((tmp_path / "before.json").read_text())
    assert found["metric"] == "overall"
    assert found["metrics"]["overall"] == 75.0
    assert found["subsets"]["count"]["overall"] == 50.0
    assert found["subsets"]["colour"]["intervals"]["overall"] == [100.0, 100.0]
    low, high = found["intervals"]["overall"]
    assert low <= 75.0 <= high
    assert found["counts"] == {"items": 8, "units": 4, "items/count": 4, "items/colour": 4}
    assert found["settings"]["prompt_templates"] == ["shapes/1"]
    assert found["settings"]["frames"] == 8
    assert (found["scorer"], found["profile"]) == ("videohallucer", "strict")


def test_answers_can_be_scored_again_another_way(tmp_path: Path) -> None:
    run(tmp_path, model())
    answers = read_predictions(tmp_path / "before.predictions.jsonl")
    assert (
        score(pairs(), answers, metric="videohallucer", profile="official").metrics["overall"]
        == 75.0
    )


def test_second_start_asks_only_what_is_left(tmp_path: Path) -> None:
    first = run(tmp_path, model())
    path = tmp_path / "before.predictions.jsonl"
    kept = path.read_text().splitlines(keepends=True)[:3]
    path.write_text("".join(kept) + '{"id": "3/ba')  # killed within the fourth line
    asked = model()
    second = run(tmp_path, asked)
    assert len(asked.calls) == 5
    assert second.metrics == first.metrics
    assert len(read_predictions(path)) == 8
    asked = model()
    run(tmp_path, asked)
    assert asked.calls == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"asked": model(name="other@2")}, 'model: "scripted@1" there, "other@2" now'),
        ({"asked": model(identity={"dtype": "bf16"})}, "identity: "),
        ({"samples": pairs(3)}, "samples: "),
        ({"sampling": Sampling(max_completion_length=7)}, "sampling: "),
        ({"fingerprint": {"weights": "b"}}, 'fingerprint: {} there, {"weights": "b"} now'),
    ],
)
def test_answers_of_another_evaluation_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run(tmp_path, model())
    asked = changes.pop("asked", model())
    with pytest.raises(StoreError, match=r"holds the answers of another evaluation \(") as found:
        run(tmp_path, asked, **changes)
    assert message in str(found.value)
    assert asked.calls == []


def test_answers_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    (tmp_path / "before.predictions.jsonl").write_text('{"id": "0/basic", "prediction": "yes"}\n')
    with pytest.raises(StoreError, match="nothing says which model gave these answers"):
        run(tmp_path, model())


def failing(call: Call, draw: int) -> str:
    if call.prompt == "1 basic":
        raise MediaCorruptError("a.mp4: cannot be decoded at 1.2 s")
    if call.prompt == "2 basic":
        raise ModelTimeoutError("no answer within 30 s")
    return right_but_for_one(call, draw)


def test_sample_whose_clip_fails_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    with pytest.raises(
        MissingPredictionsError,
        match=r'2 of 8 samples could not be asked: "1/basic": media_corrupt: .*1\.2 s; "2/basic"',
    ):
        run(tmp_path, model(script=failing))
    assert len(read_predictions(tmp_path / "before.predictions.jsonl")) == 6
    assert not (tmp_path / "before.json").exists()
    asked = model()
    assert run(tmp_path, asked).value == 75.0
    assert sorted(call.prompt for call in asked.calls) == ["1 basic", "2 basic"]


def test_sample_whose_clip_fails_counts_as_wrong_on_demand(tmp_path: Path) -> None:
    report = run(tmp_path, model(script=failing), allow_missing=True)
    assert report.value == 25.0
    assert sorted(report.errors) == ["1/basic", "2/basic"]
    found = json.loads((tmp_path / "before.json").read_text())
    assert found["missing"] == ["1/basic", "2/basic"]
    assert found["errors"]["2/basic"] == "model_timeout: no answer within 30 s"


def test_model_that_says_nothing_is_wrong_and_unparsed(tmp_path: Path) -> None:
    report = run(tmp_path, model(script=lambda _call, _draw: ""))
    assert (report.value, report.scores.unparsed) == (0.0, 8)


def test_bad_input_is_found_before_the_model_is_asked(tmp_path: Path) -> None:
    asked = model()
    with pytest.raises(RecordError, match='group "3": has no hallucinated question'):
        run(tmp_path, asked, samples=pairs()[:-1])
    with pytest.raises(RecordError, match="no samples to evaluate"):
        run(tmp_path, asked, samples=[])
    with pytest.raises(ConfigError, match=r"evaluation is greedy, found temperature 1\.0"):
        run(tmp_path, asked, sampling=Sampling(temperature=1.0))
    with pytest.raises(ConfigError, match="no parse profile 'loose'"):
        run(tmp_path, asked, profile="loose")
    assert asked.calls == []
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_a_store_error() -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        run(Path("/proc/no"), model())


def test_questions_under_way_are_bounded(tmp_path: Path) -> None:
    class Counting(ScriptedModel):
        now = most = 0

        async def generate(self, *args: Any, **kwargs: Any) -> Any:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return await super().generate(*args, **kwargs)

    asked = Counting(script=right_but_for_one)
    run(tmp_path, asked, max_concurrency=3)
    assert asked.most == 3


def test_other_errors_end_the_evaluation_and_leave_it_resumable(tmp_path: Path) -> None:
    def broken(call: Call, draw: int) -> str:
        if call.prompt == "3 basic":
            raise ZeroDivisionError("a fault of the code")
        return right_but_for_one(call, draw)

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, model(script=broken), max_concurrency=1)
    asked = model()
    assert run(tmp_path, asked).value == 75.0
    assert len(asked.calls) == 2


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    with (tmp_path / "screen").open("w") as screen:
        console = Console(file=screen, force_terminal=True, width=80)
        run(tmp_path / "eval", model(), console=console)
    assert "evaluate" in (tmp_path / "screen").read_text()
