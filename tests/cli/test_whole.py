"""All verbs on one run of a tiny text model in this process."""

import json
from pathlib import Path

import pytest
import yaml

from mmalign.cli.app import run
from mmalign.testing.tiny_models import tiny_causal_lm

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(ROOT))
    tiny = tiny_causal_lm()
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.processor.save_pretrained(tmp_path / "model")
    data = {"path": "mmalign.testing.recipes:arithmetic", "num_samples": 4}
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "output_dir": str(tmp_path / "run"),
                "dataset": data,
                "agent": {"path": "examples.own_graph:build_graph"},
                "models": {
                    "policy": {
                        "backend": "transformers",
                        "model_name_or_path": str(tmp_path / "model"),
                        "device": "cpu",
                    }
                },
                "objective": {"name": "dpo", "beta": 0.1},
                "trainer": {"max_steps": 1, "logging_steps": 1},
                "lora": {"lora_r": 4, "lora_alpha": 8},
                "evaluation": {
                    "dataset": data,
                    "metric": "exact_match",
                    "sampling": {"max_completion_length": 8},
                },
            }
        )
    )
    return str(path)


def test_build_plan_look_train_score_and_export(
    recipe: str, tmp_path: Path, capsys: Capture
) -> None:
    def said(*command: str) -> str:
        code = run([*command])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    folder = str(tmp_path / "run")
    funnel = json.loads(said("build", recipe, "--json"))
    assert funnel["num_pairs"] >= 1

    plan = json.loads(said("plan", recipe, "--json"))
    assert plan["percentiles"]
    assert plan["too_long"] == []

    pair = json.loads((tmp_path / "run" / "data" / "pairs.jsonl").read_text().splitlines()[0])
    shown = json.loads(said("show", "pair", pair["id"], "--run", folder, "--json"))
    text = shown["pair"]["chosen"]["messages"][0]["content"][0]["text"]
    assert "".join(shown["tokens"]["chosen"]) == text
    assert len(shown["tokens"]["rejected"]) == len(shown["tokens"]["rejected_phrase_ids"])

    before = json.loads(said("eval", recipe, "--json"))
    assert 0 <= before["metrics"]["accuracy"] <= 100
    assert json.loads(said("train", recipe, "--json")) == {"trained": f"{folder}/train"}
    after = json.loads(said("eval", recipe, "--arm", "after", "--json"))
    difference = json.loads((tmp_path / "run" / "eval" / "difference.json").read_text())
    assert difference["value"] == after["metrics"]["accuracy"] - before["metrics"]["accuracy"]
    assert difference["low"] <= difference["value"] <= difference["high"]

    state = json.loads(said("run", recipe, "--json"))  # all of it is done already
    assert state["num_pairs"] == funnel["num_pairs"]
    assert Path(state["report"]).exists()

    said("export", folder, str(tmp_path / "merged"))
    assert (tmp_path / "merged" / "model.safetensors").exists()
