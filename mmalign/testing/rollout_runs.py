"""Short training runs on rollouts of a tiny model: questions, a reward, what is written."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmalign.engine.rollouts import RolloutConfig
from mmalign.media import FrameSampling
from mmalign.objectives import parse_objective
from mmalign.records import Rollout, Sample, user
from mmalign.rewards.contract import Episode, RewardFunction, reward
from mmalign.rewards.scoring import WeightedReward
from mmalign.testing.tiny_models import TinyModel, tiny_causal_lm
from mmalign.training import LoraSettings, TrainerConfig, train
from mmalign.training.rollout_task import RolloutTask

__all__ = [
    "fit",
    "questions",
    "rollout_task",
    "save_tiny",
    "share_of_vowels",
    "training_log",
    "written_rollouts",
]

_QUESTIONS = (
    "what colour is it?",
    "does it move?",
    "how many shapes?",
    "which shape is first?",
    "is it a circle?",
    "does it vanish?",
    "what makes the tone?",
    "do they collide?",
)


@reward(low=0.0, high=1.0)
def share_of_vowels(episode: Episode) -> float:
    """A reward that any policy can raise."""
    letters = [letter for letter in episode.text if letter.isalpha()]
    return sum(letter in "aeiou" for letter in letters) / max(1, len(letters))


def questions(num_samples: int = 4) -> list[Sample]:
    """Up to eight questions whose answer is red."""
    return [
        Sample(id=f"q{number}", messages=(user(text),), answer="red")
        for number, text in enumerate(_QUESTIONS[:num_samples])
    ]


def rollout_task(
    *functions: RewardFunction,
    weights: Sequence[float] | None = None,
    seed: int = 7,
    **settings: Any,
) -> RolloutTask:
    """Four short rollouts of a prompt, rewarded by the functions, or by the share of vowels."""
    known: dict[str, Any] = {"num_generations": 4, "max_completion_length": 8}
    functions = functions or (share_of_vowels,)
    return RolloutTask(
        config=RolloutConfig(**known | settings),
        rewards=tuple(
            WeightedReward(function.name, function, weight)
            for function, weight in zip(functions, weights or [1.0] * len(functions), strict=True)
        ),
        seed=seed,
        manifest={"rewards": [function.name for function in functions], **settings},
    )


def fit(
    model: Path,
    output: Path,
    objective: str = "grpo",
    *,
    settings: dict[str, Any] | None = None,
    task: RolloutTask | None = None,
    samples: Sequence[Sample] | None = None,
    lora: LoraSettings | None = None,
    **changes: Any,
) -> Path:
    """Train for three steps of two prompts each, unless said otherwise."""
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
        objective=parse_objective({"name": objective, **(settings or {})}),
        trainer=TrainerConfig(**known | changes),
        lora=lora,
        media=FrameSampling(num_frames=4),
        rollouts=task or rollout_task(),
    )


def save_tiny(folder: Path, build: Callable[[], TinyModel] = tiny_causal_lm) -> Path:
    """A tiny model and its processor in a folder."""
    tiny = build()
    tiny.model.save_pretrained(folder)
    tiny.processor.save_pretrained(folder)
    return folder


def training_log(folder: Path) -> list[dict[str, float]]:
    """The lines of the steps."""
    text = (folder / "trainer_log.jsonl").read_text(encoding="utf-8")
    return [entry for entry in map(json.loads, text.splitlines()) if "loss" in entry]


def written_rollouts(folder: Path) -> list[tuple[int, Rollout]]:
    """All rollouts of the run's first process, with the step that they were made for."""
    text = (folder / "rollouts" / "rollouts-0.jsonl").read_text(encoding="utf-8")
    rows = map(json.loads, text.splitlines())
    return [(row["step"], Rollout.model_validate(row["record"])) for row in rows]
