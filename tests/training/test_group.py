"""Group RL on a tiny language model: the reward rises, and every number can be traced."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmalign.engine.rollouts import RolloutConfig
from mmalign.media import FrameSampling
from mmalign.objectives import parse_objective
from mmalign.records import Rollout, Sample, user
from mmalign.rewards.contract import Episode, reward
from mmalign.rewards.scoring import WeightedReward
from mmalign.testing.tiny_models import tiny_causal_lm
from mmalign.training import LoraSettings, TrainerConfig, train
from mmalign.training.rollout_task import RolloutTask

QUESTIONS = ("what colour is it?", "does it move?", "how many shapes?", "which shape is first?")


@reward(low=0.0, high=1.0)
def share_of_vowels(episode: Episode) -> float:
    """A trivial reward that every policy can raise."""
    letters = [letter for letter in episode.text if letter.isalpha()]
    return sum(letter in "aeiou" for letter in letters) / max(1, len(letters))


@pytest.fixture(scope="module")
def lm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_causal_lm")
    tiny = tiny_causal_lm()
    tiny.model.save_pretrained(folder)
    tiny.processor.save_pretrained(folder)
    return folder


def questions() -> list[Sample]:
    return [
        Sample(id=f"q{number}", messages=(user(text),), answer="red")
        for number, text in enumerate(QUESTIONS)
    ]


def task(*functions: Any, **settings: Any) -> RolloutTask:
    known: dict[str, Any] = {"num_generations": 4, "max_completion_length": 12}
    return RolloutTask(
        config=RolloutConfig(**known | settings),
        rewards=tuple(WeightedReward(f.name, f) for f in functions or (share_of_vowels,)),
        seed=7,
    )


def fit(
    model: Path,
    output: Path,
    *,
    objective: dict[str, Any],
    rollouts: RolloutTask | None = None,
    samples: Sequence[Sample] | None = None,
    lora: LoraSettings | None = None,
    **changes: Any,
) -> Path:
    known: dict[str, Any] = {
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
    }
    return train(
        str(model),
        samples or questions(),
        output,
        objective=parse_objective(objective),
        trainer=TrainerConfig(**known | changes),
        lora=lora,
        media=FrameSampling(num_frames=4),
        rollouts=rollouts or task(),
    )


def log_of(folder: Path) -> list[dict[str, float]]:
    text = (folder / "trainer_log.jsonl").read_text(encoding="utf-8")
    return [entry for entry in map(json.loads, text.splitlines()) if "loss" in entry]


def rollouts_of(folder: Path, process: int = 0) -> list[dict[str, Any]]:
    path = folder / "rollouts" / f"rollouts-{process}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "gspo", "rloo"])
def test_the_reward_rises(name: str, lm_dir: Path, tmp_path: Path) -> None:
    fit(
        lm_dir,
        tmp_path,
        objective={"name": name},
        rollouts=task(num_generations=8),
        max_steps=12,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
    )
    log = log_of(tmp_path)
    print([round(entry["reward"], 3) for entry in log])
    print(log[0])
    assert log[-1]["reward"] > log[0]["reward"] + 0.15
    assert all(entry["sampling/logp_difference"] < 1e-4 for entry in log)
