"""Modules trained whole beside an adapter: which they are, saved, switched off, resumed."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmalign.errors import ConfigError
from mmalign.media import FrameSampling
from mmalign.models.families import family_of
from mmalign.models.local import TransformersChatModel, TransformersModelConfig
from mmalign.objectives import parse_objective
from mmalign.records import PreferencePair
from mmalign.testing.tiny_audio_models import tiny_audio_visual, tiny_clue_model
from mmalign.testing.tiny_models import TinyModel, tiny_causal_lm, tiny_llava_onevision
from mmalign.training import LoraSettings, TrainerConfig, merge_adapter, train
from mmalign.training.adapters import with_adapter
from mmalign.training.examples import Encoder
from mmalign.training.forward import completion_hidden
from mmalign.training.reference import make_reference
from mmalign.training.run import plan_training
from mmalign.training.vision_cache import VisionCache, freeze_vision, shared_features

SAMPLING = FrameSampling(num_frames=4)
NAME = "multi_modal_projector"
LORA = LoraSettings(lora_r=4, lora_alpha=8, modules_to_save=(NAME,))
DPO = {"name": "dpo", "beta": 0.5}


def trainer_of(**settings: Any) -> TrainerConfig:
    fast = {"learning_rate": 1e-2, "max_steps": 4, "save_steps": 2, "warmup_steps": 0}
    return TrainerConfig(per_device_train_batch_size=2, logging_steps=1, **{**fast, **settings})


def run(model_dir: Path, pairs: list[PreferencePair], folder: Path, **settings: Any) -> Path:
    return train(
        str(model_dir),
        pairs,
        folder,
        objective=parse_objective(DPO),
        trainer=trainer_of(**settings),
        lora=LORA,
        media=SAMPLING,
    )


def adapter_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


async def score_of(config: TransformersModelConfig, pair: PreferencePair) -> float:
    model = TransformersChatModel.load(config, SAMPLING)
    found = await model.score(pair.prompt, "it is red.")
    await model.close()
    return sum(found.logprobs)


@pytest.mark.parametrize(
    ("tiny", "names"),
    [
        (tiny_llava_onevision, (NAME,)),
        (tiny_audio_visual, ("video_projector", "audio_projector")),
        (tiny_clue_model, ("clue_aggregator",)),
        (tiny_audio_visual, ("audio_projector.linear_1",)),
    ],
)
def test_they_are_trained_beside_the_low_rank_matrices_and_nothing_else_is(
    tiny: Callable[[], TinyModel], names: tuple[str, ...]
) -> None:
    model = tiny()
    lora = LoraSettings(lora_r=2, lora_alpha=4, modules_to_save=names)
    expected = {
        f"{name}.{weight}"
        for name in names
        for weight, _ in model.model.base_model.get_submodule(name).named_parameters()
    }
    policy = with_adapter(model.model, model.family, lora)
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    whole = {name for name in trained if "lora_" not in name}
    assert {
        name.removeprefix("base_model.model.model.").replace(".modules_to_save.default", "")
        for name in whole
    } == expected
    assert len(trained) > len(whole)


@pytest.mark.parametrize(
    "name", ["projector", "lm_head", "embed_tokens", "language_model", "linear", "q_proj", "model"]
)
def test_a_part_that_is_not_there_or_is_text_is_refused(name: str) -> None:
    tiny = tiny_clue_model()
    known = "vision_tower, video_projector, audio_tower, audio_projector, clue_aggregator"
    with pytest.raises(ConfigError, match=rf"found '{name}', expected .* decoder \({known}\)"):
        with_adapter(tiny.model, tiny.family, LoraSettings(modules_to_save=(name,)))
    text = tiny_causal_lm()
    with pytest.raises(ConfigError, match=r"\(none in this model\)"):
        with_adapter(text.model, text.family, LoraSettings(modules_to_save=(name,)))


def test_switching_the_adapter_off_switches_them_off(
    model_dir: Path, pairs: list[PreferencePair]
) -> None:
    """Only the projector differs from the start here: the low-rank matrices add nothing yet."""
    family = family_of(str(model_dir))
    model, processor = family.load(str(model_dir), dtype=torch.float32, device="cpu")
    policy = with_adapter(model, family, LORA)
    torch.manual_seed(0)
    for name, weight in policy.named_parameters():
        if "modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.5)
    base, _ = family.load(str(model_dir), dtype=torch.float32, device="cpu")
    rows = list(Encoder(family, processor, SAMPLING).pair(pairs[0]).rows)
    flags = {name: p.requires_grad for name, p in policy.named_parameters()}
    with torch.no_grad():
        expected = completion_hidden(base, family, rows)
        trained = completion_hidden(policy, family, rows)
    reference = make_reference(policy, family, "auto", dtype=torch.float32)
    torch.testing.assert_close(reference.hidden(rows, layout="branch"), expected)
    assert (trained - expected).abs().max() > 1e-2
    assert flags == {name: p.requires_grad for name, p in policy.named_parameters()}


def test_the_plan_counts_them(model_dir: Path, pairs: list[PreferencePair]) -> None:
    """A copy that is trained: its weights, its gradient and AdamW's two means."""
    memory = {}
    for lora in (LORA, LORA.model_copy(update={"modules_to_save": ()})):
        plan = plan_training(
            str(model_dir),
            pairs,
            objective=parse_objective(DPO),
            trainer=trainer_of(),
            lora=lora,
            media=SAMPLING,
        )
        assert plan.memory is not None
        memory[len(lora.modules_to_save)] = plan.memory
    projector = tiny_llava_onevision().model.base_model.get_submodule(NAME)
    size = sum(weight.numel() for weight in projector.parameters())
    assert memory[1].weights - memory[0].weights == 4 * size
    grown = memory[1].gradients_and_optimizer - memory[0].gradients_and_optimizer
    assert grown == (4 + 8) * size
    assert memory[1].reference == 0


def test_they_are_saved_loaded_and_merged(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    """The adapter with its modules scores as the merged model, and not as one without them."""
    folder = run(model_dir, pairs, tmp_path / "train")
    log = [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text().splitlines()]
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-6)
    start = load_file(model_dir / "model.safetensors")
    saved = {name: value for name, value in adapter_of(folder).items() if NAME in name}
    begun = {name: value for name, value in start.items() if NAME in name}
    assert len(saved) == len(begun) > 0
    merged = merge_adapter(folder, tmp_path / "merged")
    for name, weight in load_file(merged / "model.safetensors").items():
        if NAME in name:
            own = next(v for k, v in saved.items() if k.endswith(name.rpartition(f"{NAME}.")[2]))
            assert torch.equal(weight, own)
            assert not torch.equal(weight, begun[name])
    stripped = tmp_path / "stripped"
    stripped.mkdir()
    settings = json.loads((folder / "adapter_config.json").read_text())
    (stripped / "adapter_config.json").write_text(json.dumps(settings | {"modules_to_save": None}))
    low_rank = {name: value for name, value in adapter_of(folder).items() if "lora_" in name}
    save_file(low_rank, stripped / "adapter_model.safetensors")
    scores = []
    for path, adapter in ((model_dir, folder), (merged, None), (model_dir, stripped)):
        config = TransformersModelConfig(
            model_name_or_path=str(path), adapter=adapter and str(adapter), dtype="float32"
        )
        scores.append(asyncio.run(score_of(config, pairs[0])))
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert abs(scores[0] - scores[2]) > 1e-2


def test_a_stopped_run_ends_with_their_weights_of_an_uninterrupted_one(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    whole = run(model_dir, pairs, tmp_path / "whole")
    stopped = run(model_dir, pairs, tmp_path / "stopped")
    (stopped / "all_results.json").unlink()
    later = sorted(stopped.glob("checkpoint-*"))[-1]
    (later / "complete.json").unlink()  # as if it had been killed while writing it
    run(model_dir, pairs, tmp_path / "stopped")
    ours, theirs = adapter_of(stopped), adapter_of(whole)
    assert any(NAME in name for name in ours)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_features_behind_a_trained_projector_are_not_shared(keep: VisionCache) -> None:
    tiny = tiny_llava_onevision()
    policy = with_adapter(tiny.model, tiny.family, LORA)
    settings: dict[str, Any] = {
        "max_bytes": 2**20,
        "plain_layout": False,
        "with_dropout": False,
        "bf16": False,
    }
    assert shared_features(policy, tiny.family, tiny.processor, keep="none", **settings) is None
    with pytest.raises(ConfigError, match=f"vision_cache: {keep} .* the tower is trained"):
        shared_features(policy, tiny.family, tiny.processor, keep=keep, **settings)
    with pytest.raises(ConfigError, match=rf"modules_to_save trains '.*{NAME}"):
        freeze_vision(policy, tiny.family)


def test_in_bfloat16_they_are_trained_in_float32(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    """As the low-rank matrices are: a step of 1e-5 would be lost in bfloat16's eight bits."""
    folder = run(model_dir, pairs, tmp_path, bf16=True, max_steps=2, learning_rate=1e-5)
    start = load_file(model_dir / "model.safetensors")
    saved = {k.rpartition(f"{NAME}.")[2]: v for k, v in adapter_of(folder).items() if NAME in k}
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    moved = saved["linear_1.weight"] - next(
        value.bfloat16().float()
        for name, value in start.items()
        if name.endswith(f"{NAME}.linear_1.weight")
    )
    assert 1e-6 < moved.abs().median() < 1e-4
