"""`mmalign eval` on HumanEval, from recipe to score, with every program in the sandbox."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmalign.cli.app import run
from mmalign.datasets import human_eval
from mmalign.testing.fake_server import FakeOpenAIServer, FakeRequest
from mmalign.testing.tiny_models import tiny_causal_lm

pytestmark = pytest.mark.sandbox

Write = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
IDS = ["HumanEval/0", "HumanEval/32", "HumanEval/53"]


@pytest.fixture
def solver() -> Iterator[FakeOpenAIServer]:
    """Knows the canonical solutions of three problems."""
    known = {sample.question: str(sample.answer) for sample in human_eval.read(task_ids=IDS)}

    def answer(request: FakeRequest) -> str:
        return f"Here it is.\n{known[request.text]}\nIt is tested." if request.text in known else ""

    with FakeOpenAIServer(answer) as running:
        yield running


@pytest.fixture
def write_code_recipe(write_recipe: Write) -> Write:
    def write(policy: dict[str, Any], dataset: dict[str, Any], **evaluation: Any) -> Path:
        reader = {"path": "mmalign.datasets.human_eval:read", "task_ids": IDS, **dataset}
        return write_recipe(
            agent=None,
            dataset=reader,
            models={"policy": policy},
            evaluation={"dataset": reader, "metric": "pass_at_k", **evaluation},
            sandbox={"limits": {"wall_s": 20, "cpu_s": 20}},
        )

    return write


def said(capsys: Capture, *command: str) -> str:
    code = run([*command])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def verdicts(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "run" / "eval" / "before.verdicts.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_canonical_solutions_of_a_server_score_100(
    write_code_recipe: Write, solver: FakeOpenAIServer, tmp_path: Path, capsys: Capture
) -> None:
    policy = {"backend": "openai", "model": "solver", "base_url": solver.base_url}
    recipe = str(write_code_recipe({**policy, "api_key_env": None}, {}))
    assert "pass@1 100.0 % [100.0, 100.0]" in said(capsys, "eval", recipe)
    again = json.loads(said(capsys, "eval", recipe, "--json"))
    assert again == {"arm": "before", "metrics": {"pass@1": 100.0}}
    assert len(solver.requests) == 3  # the second start asks and runs nothing
    assert {line["id"]: line["status"] for line in verdicts(tmp_path)} == dict.fromkeys(IDS, "pass")


def test_arms_asked_in_different_ways_are_not_compared(
    write_code_recipe: Write, solver: FakeOpenAIServer, tmp_path: Path, capsys: Capture
) -> None:
    policy = {"backend": "openai", "model": "solver", "base_url": solver.base_url}
    recipe = str(write_code_recipe({**policy, "api_key_env": None}, {}))
    said(capsys, "eval", recipe)
    said(capsys, "eval", recipe, "--arm", "after")
    difference = tmp_path / "run" / "eval" / "difference.json"
    assert json.loads(difference.read_text())["value"] == 0.0
    (tmp_path / "run" / "eval" / "after.predictions.jsonl").unlink()
    (tmp_path / "run" / "eval" / "after.verdicts.jsonl").unlink()
    assert run(["eval", recipe, "evaluation.dataset.form=completion", "--arm", "after"]) != 0
    told = capsys.readouterr()
    assert "3 of 3 answers hold no code" in told.out  # the server knows the chat's prompts only
    assert "before and after were evaluated in different ways" in told.err
    assert "human_eval/completion-1" in told.err
    assert not difference.exists()


@pytest.mark.parametrize("form", ["chat", "completion"])
def test_random_model_is_drawn_from_run_and_scored(
    write_code_recipe: Write, tmp_path: Path, capsys: Capture, form: str
) -> None:
    tiny = tiny_causal_lm(chat=form == "chat")
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.processor.save_pretrained(tmp_path / "model")
    policy = {"backend": "transformers", "model_name_or_path": str(tmp_path / "model")}
    recipe = write_code_recipe(
        {**policy, "device": "cpu"},
        {"form": form},
        num_samples=2,
        k=[1, 2],
        sampling={"temperature": 0.8, "max_completion_length": 12},
    )
    result = json.loads(said(capsys, "eval", str(recipe), "--json"))
    assert result["metrics"] == {"pass@1": 0.0, "pass@2": 0.0}
    found = verdicts(tmp_path)
    assert sorted((line["id"], line.get("draw", 0)) for line in found) == [
        (name, draw) for name in IDS for draw in (0, 1)
    ]
    assert {line["status"] for line in found} <= {"fail", "error"}
    report = json.loads((tmp_path / "run" / "eval" / "before.json").read_text())
    assert report["counts"]["programs"] == 6


def test_dry_run_refuses_k_beyond_the_number_of_samples(
    write_code_recipe: Write, capsys: Capture
) -> None:
    recipe = write_code_recipe({"backend": "openai", "model": "m", "base_url": "http://x/v1"}, {})
    assert run(["eval", str(recipe), "evaluation.k=[1,10]", "--dry-run"]) == 2
    assert "evaluation.k: found [1, 10] with num_samples 1" in capsys.readouterr().err
