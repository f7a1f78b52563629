"""1 x 4, 4 x 1 and two processes x 2 take the same step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmalign.records import PreferencePair
from mmalign.records.jsonl import write_jsonl

SCRIPT = """
import json, sys
from pathlib import Path
from mmalign.media import FrameSampling
from mmalign.objectives import parse_objective
from mmalign.records import PreferencePair, Sample
from mmalign.records.jsonl import read_jsonl
from mmalign.training import LoraSettings, TrainerConfig, train

model, data, output, settings = sys.argv[1:]
settings = json.loads(settings)
objective = settings.pop("objective")
pairs = list(read_jsonl(Path(data), PreferencePair))
records = pairs if objective else [
    Sample(id=p.sample_id, messages=p.prompt, answer=p.chosen.text) for p in pairs
]
train(
    model, records, Path(output),
    objective=parse_objective(objective) if objective else None,
    trainer=TrainerConfig(
        learning_rate=1e-2, max_steps=1, warmup_steps=0, optim="sgd", max_grad_norm=0,
        logging_steps=1, lr_scheduler_type="constant", **settings,
    ),
    lora=LoraSettings(lora_r=4, lora_alpha=8), media=FrameSampling(num_frames=4),
)
"""
CUTS = {
    "1 x 4": (1, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}),
    "4 x 1": (1, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}),
    "two processes x 2": (2, {"per_device_train_batch_size": 2, "world_size": 2}),
}


def step(
    num_processes: int, model: Path, data: Path, output: Path, settings: dict[str, object]
) -> tuple[dict[str, torch.Tensor], float]:
    script = output.with_suffix(".py")
    script.write_text(SCRIPT)
    launcher = [sys.executable]
    if num_processes > 1:
        launcher += ["-m", "torch.distributed.run", "--nproc_per_node", str(num_processes)]
    done = subprocess.run(
        [*launcher, str(script), str(model), str(data), str(output), json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log = [json.loads(line) for line in (output / "trainer_log.jsonl").read_text().splitlines()]
    return load_file(output / "adapter_model.safetensors"), log[0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective", [{"name": "rrpo"}, {"name": "dpo"}, None], ids=["rrpo", "dpo", "sft"]
)
def test_how_the_batch_is_cut_changes_nothing(
    objective: dict[str, object] | None,
    model_dir: Path,
    pairs: list[PreferencePair],
    tmp_path: Path,
) -> None:
    data = tmp_path / "pairs.jsonl"
    write_jsonl(data, pairs[:4])
    found = {
        name: step(
            num, model_dir, data, tmp_path / name.replace(" ", "_"), {**cut, "objective": objective}
        )
        for name, (num, cut) in CUTS.items()
    }
    reference, loss = found.pop("4 x 1")
    moved = {n: w for n, w in reference.items() if "lora_B" in n}  # zero at the start
    norm = torch.stack([w.norm() for w in moved.values()]).norm()
    assert norm > 1e-6
    for name, (other, other_loss) in found.items():
        gap = torch.stack([(other[n] - w).norm() for n, w in moved.items()]).norm()
        assert gap / norm < 1e-5, name
        assert other_loss == pytest.approx(loss, rel=1e-5), name
