"""A whole step of group RL, sampling and learning, beside TRL's GRPOTrainer.

    python benchmarks/group_rl_step.py --json

The same tiny language model, prompts, group, reward and optimiser; GRPO with KL to the reference,
temperature 1. Both run in turns, in this process, on one thread; a row is the median CPU time of a
step after the first. TRL 1.16 samples with transformers' generate. The vocabulary is small, so what
our vocabulary head saves hardly shows here; benchmarks/group_step.py measures it.
"""

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
import transformers
from datasets import Dataset
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from mmalign.records import Sample, user
from mmalign.rewards.contract import Episode, reward
from mmalign.testing.rollout_runs import fit, rollout_task, save_tiny, training_log
from mmalign.testing.tiny_models import tiny_causal_lm
from mmalign.training.rollouts import RolloutTrainer

LEARNING_RATE, KL_WEIGHT, STEPS = 1e-4, 0.04, 4
WORDS = ["what", "shape", "moves", "to", "the", "left", "of", "a", "red", "square", "in", "it"]


class Clock(TrainerCallback):
    """CPU seconds between two steps' ends."""

    def __init__(self) -> None:
        self.ends = [time.process_time()]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """One more step."""
        self.ends.append(time.process_time())

    @property
    def seconds(self) -> list[float]:
        """Of each step after the first, which also sets things up."""
        return [b - a for a, b in zip(self.ends[1:], self.ends[2:], strict=False)]


@reward(low=0.0, high=1.0)
def vowels(episode: Episode) -> float:
    """Share of vowels."""
    return share_of_vowels(episode.text)


def share_of_vowels(text: str) -> float:
    """Of the letters."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter in "aeiou" for letter in letters) / max(1, len(letters))


def prompts(num_prompts: int, num_words: int) -> list[str]:
    """Different from the first word on, so that nothing is shared between them."""
    return [
        " ".join(WORDS[(start + place) % len(WORDS)] for place in range(num_words))
        for start in range(num_prompts)
    ]


def ours(model: Path, texts: Sequence[str], group: int, length: int, layout: str) -> dict[str, Any]:
    """Steps of mmalign's GroupTrainer."""
    clock = Clock()
    original = RolloutTrainer.__init__

    def timed(self: RolloutTrainer, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.add_callback(clock)

    RolloutTrainer.__init__ = timed  # type: ignore[method-assign]  # to listen, not to change
    try:
        with tempfile.TemporaryDirectory() as folder:
            fit(
                model,
                Path(folder) / "run",
                "grpo",
                settings={"kl_weight": KL_WEIGHT},
                samples=[Sample(id=str(i), messages=(user(text),)) for i, text in enumerate(texts)],
                task=rollout_task(vowels, num_generations=group, max_completion_length=length),
                max_steps=STEPS,
                per_device_train_batch_size=2,
                learning_rate=LEARNING_RATE,
                layout=layout,
            )
            log = training_log(Path(folder) / "run")
    finally:
        RolloutTrainer.__init__ = original  # type: ignore[method-assign]
    return {
        "cpu_s": clock.seconds,
        "mean_length": fmean(entry["completions/mean_length"] for entry in log),
        "reward": log[0]["reward"],
    }


def trls(model: Path, texts: Sequence[str], group: int, length: int) -> dict[str, Any]:
    """Steps of TRL's GRPOTrainer."""
    clock = Clock()

    def rewards(prompts: Any, completions: Any, **_: Any) -> list[float | None]:
        return [share_of_vowels(completion[0]["content"]) for completion in completions]

    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(model),
            reward_funcs=rewards,
            train_dataset=Dataset.from_list(
                [{"prompt": [{"role": "user", "content": text}]} for text in texts]
            ),
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=2 * group,
                num_generations=group,
                max_completion_length=length,
                max_steps=STEPS,
                learning_rate=LEARNING_RATE,
                lr_scheduler_type="constant",
                beta=KL_WEIGHT,
                loss_type="grpo",
                temperature=1.0,
                top_k=0,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            callbacks=[clock],
        )
        trainer.train()
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    return {
        "cpu_s": clock.seconds,
        "mean_length": fmean(entry["completions/mean_length"] for entry in log),
        "reward": log[0]["reward"],
    }


def measure(words: Sequence[int], groups: Sequence[int], length: int) -> list[dict[str, Any]]:
    """One row per prompt length, group and trainer."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny(Path(folder), lambda: tiny_causal_lm(hidden_size=256, num_layers=4))
        for num_words in words:
            texts = prompts(2 * STEPS, num_words)
            for group in groups:
                found: dict[str, list[dict[str, Any]]] = {}
                for turn in range(2):
                    cases = {
                        "mmalign, branch": lambda t=texts, g=group: ours(
                            model, t, g, length, "branch"
                        ),
                        "mmalign, plain": lambda t=texts, g=group: ours(
                            model, t, g, length, "plain"
                        ),
                        "TRL": lambda t=texts, g=group: trls(model, t, g, length),
                    }
                    for name in list(cases) if turn else list(reversed(cases)):
                        found.setdefault(name, []).append(cases[name]())
                seconds = {
                    name: median(s for run in runs for s in run["cpu_s"])
                    for name, runs in found.items()
                }
                rows += [
                    {
                        "prompt_words": num_words,
                        "answers": group,
                        "answer_tokens": length,
                        "trainer": name,
                        "cpu_s": seconds[name],
                        "over_trl": seconds["TRL"] / seconds[name],
                        "mean_length": fmean(run["mean_length"] for run in runs),
                        "reward": runs[0]["reward"],
                    }
                    for name, runs in sorted(found.items())
                ]
    return rows


def table(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"`{result['command']}`",
        "",
        f"{result['machine']}; {versions}. Qwen2ForCausalLM, hidden 256, 4 layers, float32, one "
        "thread; 2 prompts a step.",
        "",
        "| prompt, words | answers | trainer | s a step | over TRL | mean length | first reward |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['prompt_words']} | {row['answers']} x {row['answer_tokens']} | {row['trainer']} | "
        f"{row['cpu_s']:.2f} | {row['over_trl']:.2f}x | {row['mean_length']:.1f} | "
        f"{row['reward']:.3f} |"
        for row in result["rows"]
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Print the table or JSON, or write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", default="32,512")
    parser.add_argument("--groups", default="8")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # transformers
    result = {
        "machine": f"{platform.system()} {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "command": " ".join(["python", *sys.argv]),
        "versions": {name: version(name) for name in ("mmalign", "torch", "transformers", "trl")},
        "rows": measure(
            [int(part) for part in options.words.split(",")],
            [int(part) for part in options.groups.split(",")],
            options.length,
        ),
    }
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        Console().print(table(result), markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
