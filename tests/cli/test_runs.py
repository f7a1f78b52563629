"""The verbs that work through a recipe, in process, against a fake server."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmalign.cli.app import run
from mmalign.testing.fake_server import FakeOpenAIServer

Write = Callable[..., Path]


def test_a_build_writes_pairs_and_json_alone_on_stdout(
    write_recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(write_recipe()), "--json"]) == 0
    said = capsys.readouterr()
    funnel = json.loads(said.out)
    assert (funnel["num_in"], funnel["num_kept"], funnel["num_dropped"]) == (8, 5, 3)
    assert "divisible" in said.err
    lines = (tmp_path / "run" / "data" / "pairs.jsonl").read_text().splitlines()
    assert len(lines) == 5


def test_the_same_build_again_asks_nothing(write_recipe: Write, server: FakeOpenAIServer) -> None:
    recipe = str(write_recipe())
    assert run(["build", recipe]) == 0
    asked = len(server.requests)
    assert asked == 40
    assert run(["build", recipe]) == 0
    assert len(server.requests) == asked


def test_a_whole_run_ends_with_a_page(
    write_recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(write_recipe()), "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert state["num_pairs"] == 5
    assert Path(state["report"]) == tmp_path / "run" / "report" / "index.html"
    assert "<html" in Path(state["report"]).read_text()


def test_overrides_replace_values_and_a_dry_run_does_nothing(
    write_recipe: Write,
    tmp_path: Path,
    server: FakeOpenAIServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = str(write_recipe())
    assert run(["build", recipe, "dataset.num_samples=3", "seed=7", "--dry-run"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["dataset"]["num_samples"], shown["seed"]) == (3, 7)
    assert shown["engine"]["max_concurrency"] == 16  # with all defaults
    assert run(["build", recipe, "seed=7", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 7
    assert not (tmp_path / "run").exists()
    assert server.requests == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.learning_rte=1e-4", "trainer.learning_rte: unknown key; did you mean 'learning"),
        ("sed=3", "sed: unknown key; did you mean 'seed'"),
        ("agent.drop_evry=2", "drop_evry: unknown key; did you mean 'drop_every'"),
        ("agent.path=mmalign.testing.agents:build_grph", "did you mean 'build_graph'"),
        ("dataset.num_sample=3", "dataset.num_sample: mmalign.testing.agents:numbered_samples has"),
        ("objective.name=rrpoo", "no objective is called 'rrpoo'; did you mean 'rrpo'"),
        ("engine.max_concurrency=0", "engine.max_concurrency: Input should be greater than 0"),
        ("models.policy.backend=opnai", "backend: openai or transformers"),
        ("models.policy.modle=x", "modle"),
        ("seed", "override 'seed': write key=value"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(
    override: str,
    message: str,
    write_recipe: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["build", str(write_recipe()), override]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert not (tmp_path / "run").exists()


def test_a_metric_is_checked_before_anything_is_built(
    write_recipe: Write, server: FakeOpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"path": "mmalign.testing.agents:numbered_samples", "num_samples": 2}
    recipe = write_recipe(evaluation={"dataset": data, "metric": "exact_mach"})
    assert run(["run", str(recipe)]) == 2
    assert "did you mean 'exact_match'" in capsys.readouterr().err
    assert server.requests == []


def test_a_missing_recipe_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: no such recipe" in capsys.readouterr().err


def test_failed_work_is_exit_code_1(
    write_recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    assert run(["build", str(write_recipe())]) == 1
    assert "StoreError" in capsys.readouterr().err


def test_a_reached_budget_says_how_to_go_on(
    write_recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(budget={"max_tokens": 60}, engine={"max_concurrency": 1})
    assert run(["build", str(recipe)]) == 1
    said = capsys.readouterr().err
    assert "BudgetReachedError" in said
    assert "Run the same command again to resume" in said


def test_another_recipe_in_the_same_folder_is_refused(
    write_recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe())
    assert run(["build", recipe]) == 0
    assert run(["build", recipe, "agent.drop_every=2"]) == 2
    assert "holds a run with another recipe" in capsys.readouterr().err


def test_training_needs_a_trainer_and_weights(
    write_recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", str(write_recipe())]) == 2
    assert "the recipe has no trainer" in capsys.readouterr().err
    recipe = write_recipe(trainer={"max_steps": 1}, objective={"name": "dpo"}, output_dir="unused")
    assert run(["plan", str(recipe)]) == 2
    assert "models.policy is a server" in capsys.readouterr().err


def test_ctrl_c_leaves_a_run_that_goes_on(
    write_recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signal comes while the third request is being answered."""
    sent = threading.Event()

    def answer(request: Any) -> str:
        if request.index == 2:
            os.kill(os.getpid(), signal.SIGINT)
            sent.set()
        return f"answer {request.index}"

    with FakeOpenAIServer(answer) as server:
        policy = {
            "backend": "openai",
            "model": "fake",
            "base_url": server.base_url,
            "api_key_env": None,
        }
        recipe = str(write_recipe(models={"policy": policy}, engine={"max_concurrency": 1}))
        assert run(["build", recipe]) == 1
        assert sent.is_set()
        assert "Run the same command again to resume" in capsys.readouterr().err
        asked = len(server.requests)
        assert run(["build", recipe]) == 0
        assert len(server.requests) == 40  # nothing that was answered is asked again
        assert 3 <= asked < 40
    assert len((tmp_path / "run" / "data" / "pairs.jsonl").read_text().splitlines()) == 5


def test_ctrl_c_outside_a_build_says_how_to_go_on(
    write_recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader that raises what the signal raises stands in for a trainer that is interrupted."""
    recipe = write_recipe(dataset={"path": "mmalign.testing.recipes:interrupted"})
    assert run(["build", str(recipe)]) == 1
    assert "interrupted; run the same command again to go on in" in capsys.readouterr().err
