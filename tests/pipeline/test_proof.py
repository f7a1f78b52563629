"""A proof from end to end: search on validation, test once per arm and seed, signs and resume."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmalign.config import validate
from mmalign.errors import ConfigError
from mmalign.pipeline.proof import ProofConfig, prove
from mmalign.testing.tiny_models import tiny_causal_lm

ROOT = Path(__file__).parents[2]
DATA = {"path": "mmalign.testing.recipes:arithmetic", "num_samples": 6}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path)
    tiny = tiny_causal_lm()
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.processor.save_pretrained(tmp_path / "model")
    return {
        "name": "tiny",
        "target": "make proof-tiny",
        "seeds": [0, 1, 2],
        "gate": "dpo",
        "also": ["accuracy"],
        "validation": {**DATA, "num_samples": 3},
        "remarks": ["a remark"],
        "arms": {
            "dpo": {"fixed": {"objective.name": "dpo"}, "search": {"objective.beta": [0.1, 0.5]}},
            "ipo": {"fixed": {"objective.name": "ipo"}, "search": {"objective.beta": [0.1, 0.5]}},
            "sft": {
                "fixed": {"objective.name": "sft"},
                "search": {"trainer.learning_rate": [1e-6, 1e-5]},
            },
            "sft-chosen": {
                "fixed": {"objective": {"name": "sft", "answers": "chosen"}},
                "search": {"trainer.learning_rate": [1e-6, 1e-5]},
            },
        },
        "recipe": {
            "output_dir": str(tmp_path / "runs"),
            "dataset": DATA,
            "agent": {"path": "examples.own_graph:build_graph"},
            "models": {
                "policy": {
                    "backend": "transformers",
                    "model_name_or_path": str(tmp_path / "model"),
                    "device": "cpu",
                }
            },
            "objective": {"name": "dpo"},
            "trainer": {"max_steps": 1, "logging_steps": 1},
            "evaluation": {
                "dataset": DATA,
                "metric": "exact_match",
                "sampling": {"max_completion_length": 4},
            },
        },
    }


def test_a_proof_is_searched_scored_once_and_written(
    config: dict[str, Any], tmp_path: Path
) -> None:
    console = Console(quiet=True)
    proof = prove(validate(ProofConfig, config, "proof"), console)
    assert set(proof.arms) == {"base", "dpo", "ipo", "sft", "sft-chosen"}
    assert all(len(arm.values) == 3 for arm in proof.arms.values())
    written = json.loads((tmp_path / "docs" / "proofs" / "tiny.json").read_text())
    for other in ("base", "ipo", "sft", "sft-chosen"):
        gap = written["differences"][f"dpo - {other}"]
        assert gap["value"] == pytest.approx(proof.arms["dpo"].mean - proof.arms[other].mean)
        assert gap["low"] <= gap["value"] <= gap["high"]
    assert written["also"]["accuracy"].keys() == proof.arms.keys()
    assert "dpo - sft, accuracy" in written["differences"]
    page = (tmp_path / "docs" / "proofs.md").read_text()
    assert "| dpo - base | " in page
    assert "- a remark" in page
    assert "| also, mean (95 %) | base | dpo | ipo | sft | sft-chosen |" in page
    log = tmp_path / "runs" / "test_evaluations.jsonl"
    scored = [json.loads(line)[1:3] for line in log.read_text().splitlines()]
    arms = ("dpo", "ipo", "sft", "sft-chosen")
    assert scored == [["base", 0], *([arm, seed] for arm in arms for seed in range(3))]
    counted = [note for note in proof.notes if "pairs of the seeds" in note]
    assert [note.split(":")[0] for note in counted] == ["dpo", "ipo", "sft-chosen"]
    built = [len(list((tmp_path / "runs" / f"seed-{n}").glob("pairs-*"))) for n in range(3)]
    assert built == [1, 1, 1]  # all arms that want pairs want the same
    assert prove(validate(ProofConfig, config, "proof"), console).arms == proof.arms
    assert len(log.read_text().splitlines()) == 13


def test_search_budgets_must_be_equal(config: dict[str, Any]) -> None:
    config["arms"]["ipo"]["search"] = {"objective.beta": [0.1]}
    with pytest.raises(ConfigError, match="search budgets differ"):
        prove(validate(ProofConfig, config, "proof"), Console(quiet=True))
