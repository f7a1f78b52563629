"""Programs that a model answers are run in the sandbox, once each, and scored."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmalign.errors import ConfigError, FailedRatioError, RecordError, StoreError
from mmalign.evaluation import EvaluationReport, Prediction, evaluate, read_verdicts, score
from mmalign.models.protocol import Sampling
from mmalign.records import Sample, user
from mmalign.sandbox import Limits, RunResult, Sandbox, SandboxConfig
from mmalign.testing.models import Call, ScriptedModel

pytestmark = pytest.mark.sandbox

WARM = Sampling(temperature=0.8, max_completion_length=64)
QUICK = SandboxConfig(limits=Limits(wall_s=2, cpu_s=2), num_workers=2)


class CountingSandbox(Sandbox):
    """The real one, which remembers what it ran."""

    def __init__(self, config: SandboxConfig = QUICK) -> None:
        super().__init__(config)
        self.programs: list[str] = []

    def check(self, candidate: str, *args: Any, **kwargs: Any) -> RunResult:
        self.programs.append(candidate)
        return super().check(candidate, *args, **kwargs)


class FaultySandbox(CountingSandbox):
    """As a machine on which some runs cannot be started."""

    def check(self, candidate: str, *args: Any, **kwargs: Any) -> RunResult:
        if "x + 1" in candidate:
            return RunResult(status="infra_error", message="no process could be started")
        return super().check(candidate, *args, **kwargs)


@pytest.fixture
def sandbox() -> Iterator[CountingSandbox]:
    with CountingSandbox() as running:
        yield running


def problems(num: int = 3, **metadata: Any) -> list[Sample]:
    """Add 0, 1, 2 ..."""
    return [
        Sample(
            id=f"add/{number}",
            messages=(user(f"add {number}"),),
            tests=(f"assert f(5) == {5 + number}", f"assert f(-5) == {number - 5}"),
            metadata={"entry_point": "f", "dataset": "add", "version": "1", **metadata},
        )
        for number in range(num)
    ]


def fenced(body: str) -> str:
    return f"```python\ndef f(x):\n    {body}\n```"


def right(call: Call, _draw: int) -> str:
    return fenced(f"return x + {call.prompt.removeprefix('add ')}")


def run(folder: Path, sandbox: Sandbox, model: ScriptedModel, **settings: Any) -> EvaluationReport:
    return asyncio.run(
        evaluate(
            model,
            settings.pop("samples", problems()),
            metric="pass_at_k",
            out_folder=folder,
            name="before",
            num_draws=100,
            sandbox=sandbox,
            **settings,
        )
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_right_programs_score_100_and_every_verdict_is_kept(
    tmp_path: Path, sandbox: CountingSandbox
) -> None:
    report = run(tmp_path, sandbox, ScriptedModel(script=right))
    assert (report.metric, report.value) == ("pass@1", 100.0)
    assert report.intervals["pass@1"] == (100.0, 100.0)
    first, *_ = sorted(lines(tmp_path / "before.verdicts.jsonl"), key=lambda line: line["id"])
    assert first["id"] == "add/0"
    assert first["prediction"] == "\ndef f(x):\n    return x + 0"
    assert (first["status"], first["num_run"], first["num_passed"]) == ("pass", 2, 2)
    assert (first["isolation"], first["in_process"]) == ("namespaces", False)
    found = json.loads((tmp_path / "before.json").read_text())
    assert found["metrics"] == {"pass@1": 100.0}
    assert found["counts"]["status/pass"] == 3
    assert found["settings"]["sandbox"]["limits"]["wall_s"] == 2
    assert found["settings"]["benchmark"]["names"] == ["add@1"]
    assert found["warnings"] == []


def test_statuses_are_told_apart_and_slow_programs_run_again_alone(
    tmp_path: Path, sandbox: CountingSandbox
) -> None:
    bodies = ["return x", "return 7", "raise OSError('no')", "while True: pass"]

    def script(call: Call, _draw: int) -> str:
        number = int(call.prompt.removeprefix("add "))
        return fenced(bodies[number]) if number < 4 else "I do not know."

    samples = [*problems(4), *problems(5)[4:]]
    report = run(tmp_path, sandbox, ScriptedModel(script=script), samples=samples)
    assert report.value == 20.0
    kept = {line.id: line for line in read_verdicts(tmp_path / "before.verdicts.jsonl")}
    statuses = [kept[f"add/{number}"].status for number in range(5)]
    assert statuses[:4] == ["pass", "fail", "error", "timeout"]
    assert statuses[4] in ("fail", "error")
    assert [kept[f"add/{number}"].again for number in range(4)] == [False, False, False, True]
    slow = [line for line in lines(tmp_path / "before.verdicts.jsonl") if line["id"] == "add/3"]
    assert [line["again"] for line in slow] == [False, True]
    run(tmp_path, sandbox, ScriptedModel(script=script), samples=samples)
    assert len(lines(tmp_path / "before.verdicts.jsonl")) == 6


def test_answers_without_code_count_as_failed_and_are_told(
    tmp_path: Path, sandbox: CountingSandbox
) -> None:
    report = run(tmp_path, sandbox, ScriptedModel(script=lambda *_: "```\n```"))
    assert (report.value, report.scores.unparsed) == (0.0, 3)
    assert sandbox.programs == []
    assert report.warnings[0].startswith("3 of 3 answers hold no code")


def test_second_start_runs_only_what_is_left(tmp_path: Path, sandbox: CountingSandbox) -> None:
    first = run(tmp_path, sandbox, ScriptedModel(script=right))
    path = tmp_path / "before.verdicts.jsonl"
    kept = path.read_text().splitlines(keepends=True)
    path.write_text(kept[0] + kept[1][:20])  # killed within the second line
    sandbox.programs.clear()
    asked = ScriptedModel(script=right)
    second = run(tmp_path, sandbox, asked)
    assert asked.calls == []
    assert len(sandbox.programs) == 2
    assert second.metrics == first.metrics
    run(tmp_path, sandbox, asked)
    assert len(sandbox.programs) == 2


def test_several_programs_are_drawn_with_seeds_of_their_own(
    tmp_path: Path, sandbox: CountingSandbox
) -> None:
    """Draws with an even seed are right, so the score follows from the seeds."""

    def script(call: Call, draw: int) -> str:
        assert call.seed is not None
        return right(call, draw) if call.seed % 2 == 0 else fenced("return 99")

    model = ScriptedModel(script=script)
    report = run(tmp_path, sandbox, model, sampling=WARM, num_samples=2, k=(1, 2))
    seeds = [call.seed for call in model.calls]
    assert len(set(seeds)) == 6
    even = {
        f"add {number}": [
            call.seed is not None and call.seed % 2 == 0
            for call in model.calls
            if call.prompt == f"add {number}"
        ]
        for number in range(3)
    }
    shares = [sum(values) / 2 for values in even.values()]
    assert report.metrics["pass@1"] == pytest.approx(100 * sum(shares) / 3)
    assert report.metrics["pass@2"] == pytest.approx(100 * sum(map(any, even.values())) / 3)
    drawn = lines(tmp_path / "before.predictions.jsonl")
    assert sorted((line["id"], line.get("draw", 0)) for line in drawn) == [
        (f"add/{number}", draw) for number in range(3) for draw in range(2)
    ]
    again = ScriptedModel(script=script)
    more = run(tmp_path, sandbox, again, sampling=WARM, num_samples=3, k=(3,))
    assert len(again.calls) == 3  # only the third draws
    assert more.scores.counts["programs"] == 9
    fewer = run(tmp_path, sandbox, ScriptedModel(script=script), sampling=WARM, num_samples=2)
    assert fewer.metrics["pass@1"] == report.metrics["pass@1"]
    elsewhere = ScriptedModel(script=script)
    run(tmp_path / "b", sandbox, elsewhere, sampling=WARM, num_samples=2, answer_seed=1)
    assert not {call.seed for call in elsewhere.calls} & set(seeds)


def test_suites_run_in_one_process_with_the_program(
    tmp_path: Path, sandbox: CountingSandbox
) -> None:
    suite = (
        "import unittest\nclass TestIt(unittest.TestCase):\n"
        "    def test_it(self):\n        self.assertEqual(f(1), 1)\n"
    )
    sample = problems(1, mode="suite")[0].model_copy(update={"tests": (suite,)})
    report = run(tmp_path, sandbox, ScriptedModel(script=right), samples=[sample])
    assert report.value == 100.0
    assert report.scores.counts["in_process"] == 1


def test_faults_of_the_machine_make_no_score_and_are_run_again(tmp_path: Path) -> None:
    with (
        FaultySandbox() as faulty,
        pytest.raises(FailedRatioError, match=r"1 of 3 runs ended by the machine's fault"),
    ):
        run(tmp_path, faulty, ScriptedModel(script=right))
    assert not (tmp_path / "before.json").exists()
    with CountingSandbox() as sound:
        report = run(tmp_path, sound, ScriptedModel(script=right))
    assert report.value == 100.0
    assert sound.programs == ["\ndef f(x):\n    return x + 1"]


def test_verdicts_of_another_sandbox_or_profile_are_refused(
    tmp_path: Path, sandbox: CountingSandbox
) -> None:
    run(tmp_path, sandbox, ScriptedModel(script=right))
    other = SandboxConfig(limits=Limits(wall_s=3, cpu_s=2), num_workers=2)
    with CountingSandbox(other) as slower, pytest.raises(StoreError, match="another evaluation"):
        run(tmp_path, slower, ScriptedModel(script=right))
    with pytest.raises(StoreError, match='profile: "strict" there, "official" now'):
        run(tmp_path, sandbox, ScriptedModel(script=right), profile="official")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": (2,)}, r"evaluation\.k: found \[2\] with num_samples 1"),
        ({"k": ()}, r"evaluation\.k: found \[\]"),
        ({"num_samples": 2, "k": (1, 1), "sampling": WARM}, r"evaluation\.k: found \[1, 1\]"),
        ({"num_samples": 2}, "2 answers at temperature 0 are all the same"),
        ({"sampling": WARM}, r"evaluation is greedy, found temperature 0\.8"),
        ({"sandbox": None}, "pass_at_k runs programs; give it a sandbox"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_model_is_asked(
    tmp_path: Path, sandbox: CountingSandbox, settings: dict[str, Any], message: str
) -> None:
    asked = ScriptedModel(script=right)
    given = {"sandbox": sandbox, **settings}
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, given.pop("sandbox"), asked, **given)
    assert asked.calls == []


def test_other_metrics_take_no_draws_and_no_sandbox(
    tmp_path: Path, sandbox: CountingSandbox
) -> None:
    sample = Sample(id="a", messages=(user("?"),), answer="b")

    def refused(message: str, **settings: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            asyncio.run(
                evaluate(
                    ScriptedModel(),
                    [sample],
                    metric="exact_match",
                    out_folder=tmp_path,
                    name="before",
                    **settings,
                )
            )

    refused("exact_match scores one answer per question, found num_samples 2", num_samples=2)
    refused("exact_match runs nothing, found a sandbox", sandbox=sandbox)
    twice = [{"id": "a", "prediction": "b", "draw": draw} for draw in (0, 1)]
    with pytest.raises(
        RecordError, match='sample "a" has 2 predictions, and this metric scores one'
    ):
        score([sample], [Prediction(**line) for line in twice], metric="exact_match")
