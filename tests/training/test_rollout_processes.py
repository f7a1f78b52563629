"""Rollouts in processes of their own: killed at any moment, and shared by two."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmalign.testing.rollout_runs import save_tiny

SCRIPT = """
import json, sys
from pathlib import Path
from mmalign.rewards.contract import reward
from mmalign.testing.rollout_runs import fit, questions, rollout_task, share_of_vowels

@reward(low=0.0, high=1.0)
def above_the_best(episodes, history):
    shares = [float(share_of_vowels(episode)) for episode in episodes]
    best = history.get("best", -1.0)
    history["best"] = max(best, *shares)
    return [share / 2 * (2 if share > best else 1) for share in shares]

model, output, settings = sys.argv[1:]
settings = json.loads(settings)
names = {"above_the_best": above_the_best, "share_of_vowels": share_of_vowels}
task = rollout_task(names[settings.pop("reward")])
fit(Path(model), Path(output), settings.pop("objective"), task=task, samples=questions(8),
    **settings)
"""
NUM_KILLS = 4


@pytest.fixture(scope="module")
def lm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny_causal_lm"))


def command(
    model: Path, output: Path, settings: dict[str, Any], *, num_processes: int = 1
) -> list[str]:
    script = output.with_suffix(".py")
    script.write_text(SCRIPT)
    launcher = [sys.executable]
    if num_processes > 1:
        launcher += ["-m", "torch.distributed.run", "--nproc_per_node", str(num_processes)]
    return [*launcher, str(script), str(model), str(output), json.dumps(settings)]


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def written_steps(output: Path) -> int:
    """Rollouts that are on disk, whatever step they are of."""
    path = output / "rollouts" / "rollouts-0.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_after_rollouts(process: "subprocess.Popen[bytes]", output: Path, wait_s: float) -> bool:
    """Kill a while after further rollouts are written; False if it ended before."""
    before = written_steps(output)
    while written_steps(output) <= before:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["grpo", "ppo"])
def test_kills_change_no_weight_and_no_rollout(
    objective: str, lm_dir: Path, tmp_path: Path
) -> None:
    """What a reward remembers of each prompt, and rollouts in flight, are as without a kill."""
    settings = {
        "objective": objective,
        "settings": {"num_iterations": 2},
        "reward": "above_the_best",
        "max_steps": 40,
        "save_steps": 4,
        "learning_rate": 1e-2,
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(command(lm_dir, whole, settings)).wait() == 0
    rng = random.Random(0)
    for _ in range(NUM_KILLS):
        process = start(command(lm_dir, killed, settings))
        assert kill_after_rollouts(process, killed, rng.uniform(0.0, 1.0))
    assert start(command(lm_dir, killed, settings)).wait() == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (killed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    path = Path("rollouts") / "rollouts-0.jsonl"
    assert (killed / path).read_text() == (whole / path).read_text()
    assert (killed / "trainer_log.jsonl").read_text().count('"loss"') == 40


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["grpo", "dapo", "ppo"])
def test_how_the_step_is_shared_changes_nothing(
    objective: str, lm_dir: Path, tmp_path: Path
) -> None:
    """1 x 4, 4 x 1 and two processes x 2: the same rollouts, one gradient."""
    cuts: dict[str, tuple[int, dict[str, Any]]] = {
        "4x1": (1, {"per_device_train_batch_size": 4}),
        "1x4": (1, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}),
        "two": (2, {"per_device_train_batch_size": 2, "world_size": 2}),
    }
    before = load_file(lm_dir / "model.safetensors")
    moved = {}
    rollouts = {}
    for name, (num_processes, cut) in cuts.items():
        settings = {
            "objective": objective,
            "reward": "share_of_vowels",
            "max_steps": 1,
            "optim": "sgd",
            "max_grad_norm": 0,
            "learning_rate": 0.1,
            **cut,
        }
        output = tmp_path / name
        arguments = command(lm_dir, output, settings, num_processes=num_processes)
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        after = load_file(output / "model.safetensors")
        moved[name] = {key: after[key] - before[key] for key in before}
        files = sorted((output / "rollouts").glob("rollouts-*.jsonl"))
        assert len(files) == num_processes
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        rollouts[name] = {
            (row["record"]["sample_id"], row["record"]["draw_index"]): [
                segment["token_ids"] for segment in row["record"]["segments"]
            ]
            for row in rows
        }
    reference = moved.pop("4x1")
    norm = torch.stack([value.norm() for value in reference.values()]).norm()
    assert norm > 1e-4
    for name, other in moved.items():
        gap = torch.stack([(other[key] - value).norm() for key, value in reference.items()]).norm()
        assert gap / norm < 1e-5, name
        assert rollouts[name] == rollouts["4x1"]
