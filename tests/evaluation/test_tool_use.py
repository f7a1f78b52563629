"""EM, TC and TP of rolled-out policies; the rollouts are kept."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mmalign.engine.rollouts import RolloutConfig, ToolConfig
from mmalign.errors import CapabilityError, ConfigError, RecordError
from mmalign.evaluation import EvaluationReport, Prediction, RolledOut, evaluate, score
from mmalign.evaluation.answers import read_lines
from mmalign.records import Lineage, Rollout, Sample, ToolRun, user
from mmalign.testing.models import ScriptedModel
from mmalign.testing.policies import ScriptedPolicy

CALL = "<calculator>2 + 3</calculator>"
ROLLOUTS = RolloutConfig(
    format="search_r1",
    tools=(ToolConfig(path="mmalign.tools.calculator:calculator", price=0.5),),
    prompt="{question}",
    temperature=1.0,
)


@dataclass
class NamedPolicy(ScriptedPolicy):
    """A policy that an evaluation can name."""

    name: str = "scripted"
    identity: dict[str, str] = field(default_factory=dict)


def sample(number: int, answer: str, kind: str = "sum", **metadata: object) -> Sample:
    return Sample(
        id=f"s{number}",
        messages=(user(f"question {number}"),),
        answer=answer,
        metadata={"question_type": kind, **metadata},
    )


def rolled_out(item: Sample, answer: str | None, num_calls: int) -> RolledOut:
    run = ToolRun(tool="calculator", arguments="{}", outcome="ok", cost=0.5)
    refused = ToolRun(tool="calculator", arguments="{}", outcome="refused")
    rollout = Rollout(
        sample_id=item.id,
        draw_index=0,
        num_prompt_tokens=3,
        segments=(),
        tool_runs=(*[run] * num_calls, refused),
        stop="answer" if answer is not None else "max_turns",
        answer=answer,
        lineage=Lineage(),
    )
    return RolledOut(id=item.id, prediction=answer or "", rollout=rollout)


def test_productivity_is_a_ratio_of_sums() -> None:
    """3 right of 4 in 6 executed calls: 75 %, 150 calls and 50 right answers per hundred."""
    items = [sample(0, "5"), sample(1, "6"), sample(2, "7", "city"), sample(3, "8", "city")]
    given = [("5", 1), ("6.", 4), ("7", 0), (None, 1)]
    answers = [rolled_out(i, text, calls) for i, (text, calls) in zip(items, given, strict=True)]
    found = score(items, answers, metric="tool_use")
    assert found.main == "accuracy"
    assert found.metrics == pytest.approx(
        {"accuracy": 75.0, "f1": 75.0, "calls": 150.0, "cost": 75.0, "productivity": 50.0}
    )
    assert found.subsets["city"]["calls"] == 50.0
    assert found.unparsed == 1


def test_there_is_no_productivity_without_a_call() -> None:
    items = [sample(0, "5"), sample(1, "6")]
    found = score(items, [rolled_out(item, "5", 0) for item in items], metric="tool_use")
    assert "productivity" not in found.metrics
    assert found.metrics["accuracy"] == 50.0


def test_subsets_are_groups_too() -> None:
    items = [sample(0, "5", subset="tool"), sample(1, "6", "city", subset="by_heart")]
    found = score(items, [rolled_out(item, "5", 1) for item in items], metric="tool_use")
    assert found.subsets["tool"]["accuracy"] == 100.0
    assert found.subsets["by_heart"]["accuracy"] == found.subsets["city"]["accuracy"] == 0.0


def test_any_gold_answer_counts() -> None:
    item = sample(0, "Ann", golden_answers=["Ann", "Ann Lee"])
    assert score([item], [rolled_out(item, "ann lee", 1)], metric="tool_use").metrics["f1"] == 100


def test_what_cannot_be_scored_is_named() -> None:
    item = sample(0, "5")
    with pytest.raises(RecordError, match='"s0": a prediction holds no rollout'):
        score([item], [Prediction(id="s0", prediction="5")], metric="tool_use")
    with pytest.raises(RecordError, match="gold answer 'the' is empty once normalised"):
        score([sample(1, "the")], [], metric="tool_use", allow_missing=True)


def run(folder: Path, items: list[Sample], **settings: object) -> EvaluationReport:
    def script(said: str, seed: int) -> str:
        return CALL if not said else "<answer>5</answer>"

    arguments = {"metric": "tool_use", "out_folder": folder, "name": "after", "num_draws": 50}
    arguments |= {"rollouts": ROLLOUTS, **settings}
    return asyncio.run(evaluate(NamedPolicy(script), items, **arguments))  # type: ignore[arg-type]  # rolls out only


def test_a_policy_is_rolled_out_with_its_tools(tmp_path: Path) -> None:
    report = run(tmp_path, [sample(0, "5"), sample(1, "6")])
    assert report.metrics["calls"] == 100.0
    assert report.metrics["productivity"] == 50.0
    assert report.tools["calculator"]["calls"] == 2
    assert report.tools["calculator"]["cost"] == 1.0
    kept = read_lines(tmp_path / "after.predictions.jsonl", RolledOut)
    assert [one.rollout.num_tool_calls for one in kept] == [1, 1]
    assert report.settings["rollouts"]["format"] == "search_r1"
    assert "temperature" not in report.settings["rollouts"]


def test_what_was_rolled_out_is_not_rolled_out_again(tmp_path: Path) -> None:
    items = [sample(0, "5"), sample(1, "6")]
    first = run(tmp_path, items)
    before = (tmp_path / "after.predictions.jsonl").read_bytes()
    assert run(tmp_path, items).metrics == first.metrics
    assert (tmp_path / "after.predictions.jsonl").read_bytes() == before


def test_it_needs_rollouts_and_a_policy_in_process(tmp_path: Path) -> None:
    items = [sample(0, "5")]
    with pytest.raises(ConfigError, match="tool_use rolls the policy out, but the recipe has no"):
        run(tmp_path, items, rollouts=None)
    with pytest.raises(CapabilityError, match="does not tell which tokens it draws"):
        asyncio.run(
            evaluate(
                ScriptedModel(), items, metric="tool_use", out_folder=tmp_path, name="x",
                rollouts=ROLLOUTS,
            )
        )  # fmt: skip
