"""Vision-R1's recipe from end to end: an untrained detector of real classes, rewarded for boxes."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmalign.config import apply_overrides, load_yaml, validate
from mmalign.datasets.shapes.detection_model import save_detector_start
from mmalign.pipeline import RunConfig, read_recipe, run_pipeline
from mmalign.pipeline.proof import ProofConfig

CONFIGS = Path(__file__).parents[2] / "configs"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path / "cache"))
    save_detector_start(tmp_path / "model", steps=2)
    proof = validate(ProofConfig, load_yaml(CONFIGS / "proof_vision_r1.yaml"), "proof")
    overrides = [
        f"output_dir={tmp_path / 'run'}",
        f"models.policy.model_name_or_path={tmp_path / 'model'}",
        "dataset.num_samples=8",
        "evaluation.dataset.num_samples=6",
        "evaluation.sampling.max_completion_length=16",
        "rollouts.num_generations=3",
        "rollouts.max_completion_length=16",
        "trainer.per_device_train_batch_size=4",
        "trainer.max_steps=2",
        "trainer.logging_steps=1",
        "trainer.learning_rate=0.001",
    ]
    return validate(RunConfig, apply_overrides(proof.recipe, overrides), "recipe")


def test_the_proofs_recipe_rolls_out_pays_for_boxes_trains_and_reports(
    recipe: RunConfig, tmp_path: Path
) -> None:
    run_pipeline(recipe, Console(quiet=True))
    log = [row for row in lines(tmp_path / "run/train/trainer_log.jsonl") if "reward" in row]
    assert len(log) == 2
    for part in ("format", "recall", "precision"):
        assert 0.0 <= log[0][f"rewards/vision_r1/{part}/mean"] <= 1.0
    assert log[0]["sampling/logp_difference"] < 1e-4
    rollouts = [row["record"] for row in lines(tmp_path / "run/train/rollouts/rollouts-0.jsonl")]
    assert len(rollouts) == 2 * 4 * 3
    assert all(0.0 <= rollout["rewards"]["vision_r1"] <= 3.0 for rollout in rollouts)
    for arm in ("before", "after"):
        report = json.loads((tmp_path / f"run/eval/{arm}.json").read_text())
        assert set(report["metrics"]) == {"mAP", "AP50", "AP75", "AR100"}
        assert report["counts"]["units"] == 6
    page = (tmp_path / "run/report/index.html").read_text()
    assert page.count('<div class="charts boxes">') == 1
    assert page.count("data:image/png;base64,") >= 6


def test_the_papers_recipe_is_valid_and_says_what_the_paper_says() -> None:
    recipe = read_recipe(CONFIGS / "vision_r1_qwen2_5_vl.yaml", [])
    assert recipe.rollouts is not None
    assert recipe.trainer is not None
    assert (recipe.rollouts.num_generations, recipe.rollouts.max_completion_length) == (4, 512)
    assert (recipe.objective["kl_weight"], recipe.trainer.learning_rate) == (0.2, 1e-6)


def test_all_arms_of_the_proof_learn_from_the_same_rows_with_one_budget() -> None:
    proof = validate(ProofConfig, load_yaml(CONFIGS / "proof_vision_r1.yaml"), "proof")
    assert {len(arm.candidates) for arm in proof.arms.values()} == {2}
    assert not any("dataset" in key for arm in proof.arms.values() for key in arm.fixed)
    switches = [
        arm.fixed["rewards"][0]["switch_at"]
        for name, arm in proof.arms.items()
        if name.startswith("vision-r1")
    ]
    assert switches == [1.0, 0.5]
