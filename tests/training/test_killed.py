"""A training run that is killed five times ends with the weights of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmalign.records import PreferencePair
from mmalign.records.jsonl import write_jsonl

SCRIPT = """
import sys
from pathlib import Path
from mmalign.media import FrameSampling
from mmalign.objectives import parse_objective
from mmalign.records import PreferencePair
from mmalign.records.jsonl import read_jsonl
from mmalign.training import LoraSettings, TrainerConfig, train

model, data, output = sys.argv[1:]
train(
    model, list(read_jsonl(Path(data), PreferencePair)), Path(output),
    objective=parse_objective({"name": "rrpo", "beta": 0.5, "alpha": 0.05}),
    trainer=TrainerConfig(
        learning_rate=1e-2, max_steps=60, per_device_train_batch_size=2, save_steps=3,
        logging_steps=1,
    ),
    lora=LoraSettings(lora_r=8, lora_alpha=16), media=FrameSampling(num_frames=4),
)
"""
NUM_KILLS = 5


def start(script: Path, model: Path, data: Path, output: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, str(script), str(model), str(data), str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("checkpoint-*")}


def kill_after_progress(process: "subprocess.Popen[bytes]", output: Path, wait_s: float) -> bool:
    """Kill a while after a further checkpoint folder appears; False if it ended before."""
    before = checkpoints(output)
    while checkpoints(output) <= before:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_five_kills_change_no_weight(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    data, script = tmp_path / "pairs.jsonl", tmp_path / "train.py"
    write_jsonl(data, pairs)
    script.write_text(SCRIPT)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(script, model_dir, data, whole).wait() == 0
    rng = random.Random(0)
    num_killed = 0
    while num_killed < NUM_KILLS:
        process = start(script, model_dir, data, killed)
        assert kill_after_progress(process, killed, rng.uniform(0.0, 0.3))
        num_killed += 1
    assert start(script, model_dir, data, killed).wait() == 0
    ours, theirs = (load_file(f / "adapter_model.safetensors") for f in (killed, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (killed / "trainer_log.jsonl").read_text().count('"loss"') == 60
