"""bf16 computes in bfloat16 with float32 weights, and sums what it compares in float32."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmalign.media import FrameSampling
from mmalign.models.families import family_of
from mmalign.objectives import parse_objective
from mmalign.records import PreferencePair
from mmalign.training import LoraSettings, TrainerConfig, train
from mmalign.training.adapters import with_adapter
from mmalign.training.checkpoints import begin_run
from mmalign.training.examples import Batch, Encoder, ExampleDataset
from mmalign.training.forward import base_model
from mmalign.training.preference import PreferenceTrainer
from mmalign.training.processes import own_device
from mmalign.training.reference import make_reference
from mmalign.training.trainer import ItemLosses

LORA = LoraSettings(lora_r=2, lora_alpha=4)


class _Watched(PreferenceTrainer):
    """Keeps the dtypes of what the objective is given and of what it gives."""

    seen: set[torch.dtype]

    def item_losses(self, batch: Batch) -> ItemLosses:
        scores = self.score_branches(batch.rows)
        losses = super().item_losses(batch)
        assert scores.ref_logps is not None
        self.seen = {part.dtype for part in (*scores.logps, *scores.ref_logps, losses.total)}
        return losses


@pytest.mark.parametrize("bf16", [True, False], ids=["bf16", "float32"])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_activations_are_bfloat16_and_losses_float32(
    lora: LoraSettings | None,
    bf16: bool,
    model_dir: Path,
    pairs: list[PreferencePair],
    tmp_path: Path,
) -> None:
    family = family_of(str(model_dir))
    dtype = torch.bfloat16 if bf16 and lora else torch.float32  # as `train` loads it
    model, processor = family.load(str(model_dir), dtype=dtype, device="cpu")
    policy = with_adapter(model, family, lora)
    begin_run(tmp_path, {})
    loop = _Watched(
        policy,
        family,
        processor,
        ExampleDataset(pairs[:1], Encoder(family, processor, FrameSampling(num_frames=4)).pair),
        TrainerConfig(max_steps=1, bf16=bf16),
        tmp_path,
        {},
        objective=parse_objective({"name": "dpo"}),
        reference=make_reference(policy, family, "auto", dtype=dtype),
    )
    found: set[torch.dtype] = set()

    def watch(_: nn.Module, __: Any, output: Tensor) -> None:
        found.add(output.dtype)

    for module in family.decoder(base_model(policy)).modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(watch)
    loop.train()
    assert found == {torch.bfloat16 if bf16 else torch.float32}
    assert loop.seen == {torch.float32}
    trained = {p.dtype for p in policy.parameters() if p.requires_grad}
    assert trained == {torch.float32}


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_a_policy_that_has_not_moved_equals_its_reference_in_bf16(
    name: str, model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    """So policy, reference, stored reference and reference point compute in one precision."""
    modes = ("compute", "store") if name == "dpo" else ("compute",)
    for mode in modes:
        folder = train(
            str(model_dir),
            pairs[:2],
            tmp_path / mode,
            objective=parse_objective({"name": name}),
            trainer=TrainerConfig(
                max_steps=1,
                logging_steps=1,
                per_device_train_batch_size=1 if name == "dpo" else 2,
                bf16=True,
                reference_logps=mode,
                reference_store="run",
            ),
            lora=None,
            media=FrameSampling(num_frames=4),
        )
        first = json.loads((folder / "trainer_log.jsonl").read_text().splitlines()[0])
        assert first["rewards/chosen"] == 0.0
        expected = 0.6931471805599453 if name == "dpo" else 0.5
        assert first["loss"] == pytest.approx(expected, abs=1e-6)


def test_every_process_has_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert own_device() == "cuda:3"
    monkeypatch.delenv("LOCAL_RANK")
    assert own_device() == "cuda:0"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device() == "cpu"
