"""A step that does not fit names its records and what helps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign.errors import TrainingMemoryError
from mmalign.media import FrameSampling
from mmalign.models.families import family_of
from mmalign.objectives import parse_objective
from mmalign.records import PreferencePair, labelled_of
from mmalign.training import LoraSettings, TrainerConfig
from mmalign.training.adapters import with_adapter
from mmalign.training.checkpoints import begin_run
from mmalign.training.examples import Encoder, Example, ExampleDataset
from mmalign.training.out_of_memory import explain_memory
from mmalign.training.plan import count_tokens
from mmalign.training.preference import PreferenceTrainer
from mmalign.training.reference import make_reference
from mmalign.training.unpaired import UnpairedTrainer

PETABYTE = 2**50


@pytest.fixture
def encoder(model_dir: Path) -> Encoder:
    family = family_of(str(model_dir))
    _, processor = family.load(str(model_dir), dtype=torch.float32, device="cpu")
    return Encoder(family, processor, FrameSampling(num_frames=4))


@pytest.fixture
def examples(encoder: Encoder, pairs: list[PreferencePair]) -> list[Example]:
    return [encoder.pair(pair) for pair in pairs[:2]]


def message_of(examples: list[Example], **settings: Any) -> str:
    with (
        pytest.raises(TrainingMemoryError) as caught,
        explain_memory(examples, TrainerConfig(**settings)),
    ):
        torch.empty(PETABYTE, dtype=torch.uint8)
    return str(caught.value)


def test_records_are_named_the_longest_first(examples: list[Example]) -> None:
    message = message_of(examples, per_device_train_batch_size=2)
    assert "a micro-batch of 2 records" in message
    counts = sorted(map(count_tokens, examples), key=lambda count: -count.total_tokens)
    assert counts[0].total_tokens > counts[1].total_tokens
    places = []
    for count in counts:
        named = (
            f"{count.id!r} with {count.media_tokens} media, {count.text_tokens} text and "
            f"{count.completion_tokens} completion tokens"
        )
        places.append(message.index(named))
    assert places == sorted(places)
    assert f"tried to allocate {PETABYTE} bytes" in message


def test_what_helps_most_comes_first_and_what_is_done_is_left_out(
    examples: list[Example],
) -> None:
    message = message_of(examples, per_device_train_batch_size=16, gradient_accumulation_steps=2)
    order = [
        "per_device_train_batch_size: 1 with gradient_accumulation_steps: 32",
        "gradient_checkpointing: true",
        "media.num_frames",
        "bf16: true",
        "reference_logps: store",
        "logps_chunk_size below 1024",
        "max_length below",
    ]
    assert [message.index(knob) for knob in order] == sorted(map(message.index, order))
    few = message_of(examples, per_device_train_batch_size=2)
    assert few.index("gradient_checkpointing") < few.index("per_device_train_batch_size")
    done = message_of(
        examples, gradient_checkpointing=True, bf16=True, reference_logps="store", layout="plain"
    )
    for knob in ("gradient_checkpointing", "bf16", "reference_logps", "per_device_train"):
        assert knob not in done
    assert "trainer.layout: branch" in done


def test_other_errors_pass_as_they_are(examples: list[Example]) -> None:
    with (
        pytest.raises(RuntimeError, match="size of tensor a") as caught,
        explain_memory(examples, TrainerConfig()),
    ):
        torch.zeros(2) + torch.zeros(3)
    assert not isinstance(caught.value, TrainingMemoryError)


class _Greedy(PreferenceTrainer):
    """Asks for more than there is in its second step."""

    def item_losses(self, batch: Any) -> Any:
        if self.state.global_step == 1:
            torch.empty(PETABYTE, dtype=torch.uint8)
        return super().item_losses(batch)


def test_a_training_step_that_fails_tells(
    model_dir: Path, pairs: list[PreferencePair], encoder: Encoder, tmp_path: Path
) -> None:
    model, processor = encoder.family.load(str(model_dir), dtype=torch.float32, device="cpu")
    policy = with_adapter(model, encoder.family, LoraSettings(lora_r=2, lora_alpha=4))
    begin_run(tmp_path, {})
    loop = _Greedy(
        policy,
        encoder.family,
        processor,
        ExampleDataset(pairs, encoder.pair),
        TrainerConfig(max_steps=3),
        tmp_path,
        {},
        objective=parse_objective({"name": "dpo"}),
        reference=make_reference(policy, encoder.family, "auto", dtype=torch.float32),
    )
    with pytest.raises(TrainingMemoryError, match=r"a micro-batch of 1 records: .* media, "):
        loop.train()


class _GreedyPoint(UnpairedTrainer):
    """Asks for more than there is where the reference point is taken, without gradient."""

    def score_branches(self, rows: Any) -> Any:
        if not torch.is_grad_enabled():
            torch.empty(PETABYTE, dtype=torch.uint8)
        return super().score_branches(rows)


def test_a_reference_point_that_fails_tells(
    model_dir: Path, pairs: list[PreferencePair], encoder: Encoder, tmp_path: Path
) -> None:
    model, processor = encoder.family.load(str(model_dir), dtype=torch.float32, device="cpu")
    policy = with_adapter(model, encoder.family, LoraSettings(lora_r=2, lora_alpha=4))
    begin_run(tmp_path, {})
    loop = _GreedyPoint(
        policy,
        encoder.family,
        processor,
        ExampleDataset([side for pair in pairs for side in labelled_of(pair)], encoder.labelled),
        TrainerConfig(max_steps=1, per_device_train_batch_size=2),
        tmp_path,
        {},
        objective=parse_objective({"name": "kto"}),
        reference=make_reference(policy, encoder.family, "auto", dtype=torch.float32),
    )
    with pytest.raises(TrainingMemoryError, match=r"a micro-batch of 2 records: .* media, "):
        loop.train()
