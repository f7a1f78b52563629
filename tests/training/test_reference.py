"""The reference is the frozen start of the policy, however it is kept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign.errors import ConfigError
from mmalign.media import FrameSampling
from mmalign.models.families import ModelFamily, family_of
from mmalign.records import PreferencePair
from mmalign.training import LoraSettings
from mmalign.training.adapters import with_adapter
from mmalign.training.examples import Encoder
from mmalign.training.forward import completion_hidden
from mmalign.training.reference import Reference, make_reference


def policy_of(model_dir: Path) -> tuple[ModelFamily, torch.nn.Module, Any]:
    family = family_of(str(model_dir))
    model, processor = family.load(str(model_dir), dtype=torch.float32, device="cpu")
    policy = with_adapter(model, family, LoraSettings(lora_r=4, lora_alpha=8))
    torch.manual_seed(0)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:  # zero at the start: give the adapter something to say
            torch.nn.init.normal_(parameter, std=0.1)
    return family, policy, processor


def test_switching_the_adapter_off_gives_the_base_and_leaves_every_flag(
    model_dir: Path, pairs: list[PreferencePair]
) -> None:
    family, policy, processor = policy_of(model_dir)
    rows = list(Encoder(family, processor, FrameSampling(num_frames=4)).pair(pairs[0]).rows)
    base, _ = family.load(str(model_dir), dtype=torch.float32, device="cpu")
    policy.train()
    flags = {name: p.requires_grad for name, p in policy.named_parameters()}
    reference = make_reference(policy, family, "auto", dtype=torch.float32)
    hidden = reference.hidden(rows, layout="branch")
    with torch.no_grad():
        expected = completion_hidden(base, family, rows)
        adapted = completion_hidden(policy, family, rows)
    torch.testing.assert_close(hidden, expected)
    assert (adapted - expected).abs().max() > 1e-3
    assert flags == {name: p.requires_grad for name, p in policy.named_parameters()}
    assert policy.training
    assert not hidden.requires_grad


def test_adapter_off_needs_an_adapter(model_dir: Path) -> None:
    family = family_of(str(model_dir))
    model, _ = family.load(str(model_dir), dtype=torch.float32, device="cpu")
    with pytest.raises(ConfigError, match="adapter_off needs a LoRA policy"):
        make_reference(model, family, "adapter_off", dtype=torch.float32)


def test_an_adapter_on_the_vocabulary_head_is_no_reference_when_switched_off(
    model_dir: Path,
) -> None:
    family = family_of(str(model_dir))
    model, _ = family.load(str(model_dir), dtype=torch.float32, device="cpu")
    lora = LoraSettings(lora_r=4, lora_alpha=8, lora_target_modules=("q_proj", "lm_head"))
    policy = with_adapter(model, family, lora)
    with pytest.raises(ConfigError, match="holds the vocabulary head"):
        make_reference(policy, family, "auto", dtype=torch.float32)
    make_reference(policy, family, "copy", dtype=torch.float32)


def test_a_reference_that_could_be_trained_is_refused(model_dir: Path) -> None:
    family = family_of(str(model_dir))
    model, _ = family.load(str(model_dir), dtype=torch.float32, device="cpu")
    with pytest.raises(ConfigError, match="the reference is trainable"):
        Reference(model, family, adapter_off=False)
    assert Reference(model.requires_grad_(False), family, adapter_off=False)


def test_a_reference_with_another_vocabulary_is_refused(model_dir: Path, tmp_path: Path) -> None:
    family, policy, processor = policy_of(model_dir)
    other = tmp_path / "other"
    family.load(str(model_dir), dtype=torch.float32, device="cpu")[0].save_pretrained(other)
    processor.save_pretrained(other)
    make_reference(policy, family, str(other), dtype=torch.float32)
    processor.tokenizer.add_tokens(["theremin"])
    processor.save_pretrained(other)
    with pytest.raises(ConfigError, match=r"another vocabulary than the policy .*theremin"):
        make_reference(policy, family, str(other), dtype=torch.float32)
