"""Features of a frozen tower are computed once for each frame and change no number."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

import mmalign.training.vision_cache as vision_cache
from mmalign.errors import ConfigError
from mmalign.media import FrameSampling, VideoClip
from mmalign.objectives import parse_objective
from mmalign.records import MediaRef, PreferencePair, text_of, user
from mmalign.testing.tiny_audio_models import (
    tiny_audio_visual,
    tiny_clue_model,
    tiny_qwen2_5_omni,
)
from mmalign.testing.tiny_models import (
    TinyModel,
    tiny_causal_lm,
    tiny_clip,
    tiny_image,
    tiny_llava_onevision,
    tiny_qwen2_5_vl,
)
from mmalign.testing.tiny_vision_models import tiny_qwen3_vl, tiny_smolvlm
from mmalign.training import LoraSettings, TrainerConfig, train
from mmalign.training.fingerprints import tensors_hash
from mmalign.training.forward import Row, base_model, completion_hidden
from mmalign.training.reference import make_reference
from mmalign.training.vision_cache import (
    FeatureFiles,
    VisionFeatures,
    freeze_vision,
    same_tower,
    shared_features,
)

FAMILIES: dict[str, Callable[[], TinyModel]] = {
    "llava_onevision": tiny_llava_onevision,
    "qwen2_5_vl": tiny_qwen2_5_vl,
    "qwen3_vl": tiny_qwen3_vl,
    "qwen2_5_omni": tiny_qwen2_5_omni,
    "smolvlm": tiny_smolvlm,
}
NUM_UNITS = {"llava_onevision": 9, "qwen2_5_vl": 5, "qwen3_vl": 5, "qwen2_5_omni": 5, "smolvlm": 13}
"""Of `rows_of`: two clips of four frames and a picture, which SmolVLM cuts into five tiles."""
MERGED = {"llava_onevision": 1, "qwen2_5_vl": 2, "qwen3_vl": 2, "qwen2_5_omni": 2, "smolvlm": 1}
"""Frames of a unit."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMALIGN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def adapted(tiny: TinyModel) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        targets = tiny.family.language_linears(tiny.model)
        config = LoraConfig(target_modules=targets, r=2, init_lora_weights=False)
        return get_peft_model(tiny.model, config)


def rows_of(tiny: TinyModel) -> list[Row]:
    """Two questions about one clip, one about another, one about a picture beside the clip."""
    clips = [tiny_clip(num_frames=4, seed=seed) for seed in (0, 1)]
    shown: list[tuple[str, list[Any]]] = [
        ("a", [clips[0]]),
        ("a", [clips[0]]),
        ("b", [clips[1]]),
        ("both", [tiny_image(seed=2), clips[0]]),
    ]
    return [row_about(tiny, media, number, key=key) for number, (key, media) in enumerate(shown)]


def row_about(tiny: TinyModel, media: list[Any], number: int = 0, *, key: str = "") -> Row:
    refs = [
        MediaRef(kind="video" if isinstance(item, VideoClip) else "image", uri="in it")
        for item in media
    ]
    messages = (user(("what colour is it?", "describe the video.")[number % 2], *refs),)
    prompt = tiny.family.encode_prompt(tiny.processor, messages, media)
    branches = tuple(
        tiny.family.encode_completion(tiny.processor, messages, (text_of(answer),))
        for answer in ("red.", "it is the blue square.")
    )
    return Row(replace(prompt, media_key=key), branches)


def shown_as(clip: VideoClip, order: list[int]) -> VideoClip:
    """The frames of a clip in another order, or some of them."""
    return replace(
        clip,
        frames=clip.frames[order],
        timestamps_s=np.arange(len(order)) / 2.0,
        indices=clip.indices[: len(order)],
    )


def assert_same(one: Tensor, other: Tensor) -> None:
    """To rounding: the order of sums depends on the size of a batch."""
    assert (one - other).norm() < 1e-5 * other.norm()


@contextmanager
def count_calls(model: nn.Module) -> Iterator[list[int]]:
    """Calls of the tower."""
    inner: Any = base_model(model).base_model
    names = ("visual", "vision_tower", "vision_model")
    tower = next(getattr(inner, name) for name in names if hasattr(inner, name))
    calls: list[int] = []
    handle = tower.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


def gradients(model: nn.Module, hidden: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    weights = torch.linspace(-1.0, 1.0, hidden.numel(), dtype=hidden.dtype).view_as(hidden)
    torch.autograd.backward((hidden * weights).mean())
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    norm = torch.stack([g.norm() for g in one.values()]).norm()
    return float(torch.stack([(one[n] - other[n]).norm() for n in one]).norm() / norm)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", FAMILIES)
def test_shared_features_change_neither_states_nor_gradients(name: str, dtype: torch.dtype) -> None:
    tiny = FAMILIES[name]()
    tiny.model.to(dtype)  # type: ignore[arg-type]  # stubs take no dtype
    model = adapted(tiny).to(dtype)
    rows = [_as(row, dtype) for row in rows_of(tiny)]
    own = completion_hidden(model, tiny.family, rows)
    expected = gradients(model, own)
    vision = VisionFeatures(model, tiny.family, max_bytes=2**20)
    shared = completion_hidden(model, tiny.family, rows, features=vision.of(rows))
    found = gradients(model, shared)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-6
    assert (own - shared).norm() < tolerance * own.norm()
    assert found.keys() == expected.keys()
    assert len(found) > 0
    assert distance(expected, found) < tolerance
    assert vision.num_encoded == NUM_UNITS[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_policy_and_reference_share_one_call_for_all_clips(name: str) -> None:
    tiny = FAMILIES[name]()
    model = adapted(tiny)
    rows = rows_of(tiny)[:3]
    reference = make_reference(model, tiny.family, "auto", dtype=torch.float32)
    with count_calls(model) as calls:
        before = reference.hidden(rows, layout="branch")
    assert len(calls) == 1
    vision = VisionFeatures(model, tiny.family, max_bytes=2**20)
    reference.share(vision, model)
    with count_calls(model) as calls:
        completion_hidden(model, tiny.family, rows, features=vision.of(rows))
        after = reference.hidden(rows, layout="branch")
    assert len(calls) == vision.num_runs == 1
    assert vision.num_encoded == 8 // MERGED[name]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_frames_in_another_order_are_not_encoded_again(name: str) -> None:
    """Reversed, shuffled, cut short and frozen: by whole units, which the tower cannot tell."""
    tiny = FAMILIES[name]()
    clip = tiny_clip(num_frames=8, seed=3)
    size = MERGED[name]
    units = np.arange(8).reshape(-1, size)
    rng = np.random.default_rng(0)
    orders = [units[::-1], rng.permutation(units), units[2:], units[[0] * len(units)]]
    vision = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20)
    vision.of([row_about(tiny, [clip])])
    assert vision.num_encoded == len(units)
    for order in orders:
        row = row_about(tiny, [shown_as(clip, order.flatten().tolist())])
        (found,) = vision.of([row])
        assert vision.num_encoded == len(units)
        with torch.no_grad():
            own = tiny.family.media_embeds(tiny.model, row.prompt.media)
        assert_same(found, own)


@pytest.mark.parametrize("name", FAMILIES)
def test_of_a_clip_that_shares_half_its_frames_the_other_half_is_encoded(name: str) -> None:
    tiny = FAMILIES[name]()
    one, other = tiny_clip(num_frames=8, seed=3), tiny_clip(num_frames=8, seed=4)
    mixed = replace(one, frames=np.concatenate([other.frames[:4], one.frames[4:]]))
    vision = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20)
    vision.of([row_about(tiny, [one])])
    before = vision.num_encoded
    vision.of([row_about(tiny, [mixed])])
    assert (before, vision.num_encoded - before) == (8 // MERGED[name], 4 // MERGED[name])


def test_a_frame_that_repeats_inside_a_clip_is_encoded_once() -> None:
    tiny = tiny_llava_onevision()
    frozen = shown_as(tiny_clip(num_frames=2), [0, 0, 1, 0, 0])
    vision = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20)
    vision.of([row_about(tiny, [frozen])])
    assert vision.num_encoded == 2


def test_runs_of_the_tower_are_bounded_and_change_no_feature() -> None:
    tiny = tiny_llava_onevision()
    clip = tiny_clip(num_frames=40, seed=5)
    vision = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20)
    with count_calls(tiny.model) as calls:
        (together,) = vision.of([row_about(tiny, [clip])])
    assert (len(calls), vision.num_runs, vision.num_encoded) == (2, 2, 40)
    for place in (0, 31, 32, 39):
        alone = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20)
        (frame,) = alone.of([row_about(tiny, [shown_as(clip, [place])])])
        assert_same(together[4 * place : 4 * place + 4], frame[:4])


def test_named_media_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny_llava_onevision()
    hashed: list[int] = []

    def counted(tensors: Any) -> str:
        hashed.append(1)
        return tensors_hash(tensors)

    monkeypatch.setattr(vision_cache, "tensors_hash", counted)
    vision = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20)
    for _ in range(3):
        vision.begin_step()
        vision.of(rows_of(tiny)[:2])
    assert len(hashed) == 4
    assert vision.num_encoded == 3 * 4


def test_a_step_forgets_and_memory_is_bounded() -> None:
    tiny = tiny_llava_onevision()
    rows = rows_of(tiny)[1:3]
    vision = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20)
    for _ in range(2):
        vision.begin_step()
        vision.of(rows)
        vision.of(rows)
    assert vision.num_encoded == 2 * 8
    lasting = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20, across_steps=True)
    for _ in range(2):
        lasting.begin_step()
        lasting.of(rows)
    assert lasting.num_encoded == 8
    room = 4 * (4 + 1) * 32 * 4  # four frames of four tokens and a line end, 32 numbers of 4 bytes
    narrow = VisionFeatures(tiny.model, tiny.family, max_bytes=room, across_steps=True)
    first = narrow.of(rows)
    narrow.of(rows[1:])  # the last one is still there
    assert narrow.num_encoded == 8
    again = narrow.of(rows[:1])  # the first one had to go
    assert narrow.num_encoded == 8 + 4
    assert_same(again[0], first[0])


def test_media_without_a_name_are_told_apart_by_their_pixels() -> None:
    tiny = tiny_llava_onevision()
    rows = [Row(replace(row.prompt, media_key=""), row.branches) for row in rows_of(tiny)]
    vision = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20)
    features = vision.of(rows)
    assert vision.num_encoded == NUM_UNITS["llava_onevision"]
    assert torch.equal(features[0], features[1])
    assert not torch.equal(features[0], features[2])


def test_files_serve_the_next_run_and_the_oldest_make_room(tmp_path: Path) -> None:
    tiny = tiny_llava_onevision()
    rows = rows_of(tiny)
    files = FeatureFiles(tmp_path)
    one = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20, files=files)
    computed = one.of(rows)
    other = VisionFeatures(tiny.model, tiny.family, max_bytes=2**20, files=FeatureFiles(tmp_path))
    found = other.of(rows)
    assert (one.num_encoded, other.num_encoded) == (NUM_UNITS["llava_onevision"], 0)
    assert all(torch.equal(a, b) for a, b in zip(computed, found, strict=True))
    small = FeatureFiles(tmp_path, max_bytes=5000)
    small.put("new", computed[0])
    assert small.get("new") is not None
    kept = list(tmp_path.iterdir())
    assert len(kept) < NUM_UNITS["llava_onevision"]
    assert sum(path.stat().st_size for path in kept) <= 5000


def test_towers_are_the_same_when_all_of_their_weights_are() -> None:
    one, other = tiny_llava_onevision(), tiny_llava_onevision()
    with torch.no_grad():
        other.family.head(other.model).weight.add_(1.0)  # type: ignore[operator]  # a Tensor
    assert same_tower(one.model, other.model, one.family)
    with torch.no_grad():
        other.model.model.multi_modal_projector.linear_1.weight[0, 0] += 1e-3
    assert not same_tower(one.model, other.model, one.family)


def shared(tiny: TinyModel, model: nn.Module, **changes: Any) -> VisionFeatures | None:
    settings: dict[str, Any] = {
        "keep": "none",
        "plain_layout": False,
        "with_dropout": False,
        "bf16": False,
    }
    return shared_features(
        model, tiny.family, tiny.processor, max_bytes=2**20, **(settings | changes)
    )


def test_what_would_change_a_number_is_not_shared() -> None:
    tiny = tiny_llava_onevision()
    assert shared(tiny, tiny.model) is None
    with pytest.raises(ConfigError, match=r"the tower is trained; set trainer\.freeze_vision"):
        shared(tiny, tiny.model, keep="memory")
    freeze_vision(tiny.model, tiny.family)
    assert shared(tiny, tiny.model) is not None
    with pytest.raises(ConfigError, match="dropout in the tower draws anew"):
        shared(tiny, tiny.model, keep="memory", with_dropout=True)
    with pytest.raises(ConfigError, match=r"gives the model pixels; set trainer\.layout: branch"):
        shared(tiny, tiny.model, keep="disk", plain_layout=True)
    text = tiny_causal_lm()
    assert shared(text, text.model) is None
    with pytest.raises(ConfigError, match="causal_lm has no tower"):
        shared(text, text.model, keep="memory")
    with pytest.raises(ConfigError, match="the plain layout reads pixels, found features"):
        completion_hidden(tiny.model, tiny.family, [], layout="plain", features=[])


def test_clues_are_not_shared_between_questions() -> None:
    tiny = tiny_clue_model()
    freeze_vision(tiny.model, tiny.family)
    assert shared(tiny, tiny.model) is None
    with pytest.raises(ConfigError, match="makes of a clip depends on the question"):
        shared(tiny, tiny.model, keep="memory")
    plain = tiny_audio_visual()
    freeze_vision(plain.model, plain.family)
    assert shared(plain, plain.model) is not None


def test_freezing_leaves_the_language_model() -> None:
    tiny = tiny_qwen2_5_vl()
    freeze_vision(tiny.model, tiny.family)
    trained = {name for name, p in tiny.model.named_parameters() if p.requires_grad}
    assert "model.visual.merger.mlp.0.weight" not in trained
    assert "lm_head.weight" in trained
    assert all(not name.startswith("model.visual") for name in trained)
    assert len(trained) > 10
    text = tiny_causal_lm()
    with pytest.raises(ConfigError, match="causal_lm has no vision tower"):
        freeze_vision(text.model, text.family)
    other = tiny_qwen2_5_vl()
    on_tower = get_peft_model(other.model, LoraConfig(target_modules=r".*merger\.mlp\.0"))
    with pytest.raises(ConfigError, match=r"lora_target_modules .* trains '.*merger"):
        freeze_vision(on_tower, other.family)


def run(model_dir: Path, records: Any, output_dir: Path, **settings: Any) -> Path:
    lora = settings.pop("lora", LoraSettings(lora_r=4, lora_alpha=8))
    defaults = {"learning_rate": 1e-2, "num_train_epochs": 2, "logging_steps": 1, "warmup_steps": 0}
    return train(
        str(model_dir),
        records,
        output_dir,
        objective=parse_objective({"name": "dpo", "beta": 0.5}),
        trainer=TrainerConfig(**{**defaults, **settings}),
        lora=lora,
        media=FrameSampling(num_frames=4),
    )


def test_kept_features_take_the_same_steps(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    name = "adapter_model.safetensors"
    size: dict[str, Any] = {"per_device_train_batch_size": 2, "optim": "sgd", "learning_rate": 0.1}
    none = load_file(run(model_dir, pairs[:4], tmp_path / "none", **size) / name)
    moved = torch.stack([weight.norm() for n, weight in none.items() if "lora_B" in n]).norm()
    assert moved > 1e-5  # they are zero at the start
    for number, keep in enumerate(("memory", "disk", "disk")):
        folder = run(model_dir, pairs[:4], tmp_path / str(number), vision_cache=keep, **size)
        found = load_file(folder / name)
        gap = torch.stack([(found[n] - w).norm() for n, w in none.items() if "lora_B" in n]).norm()
        assert gap < 1e-5 * moved
        log = (folder / "trainer_log.jsonl").read_text()
        frames = [8.0, 8.0, 0.0, 0.0] if number < 2 else [0.0] * 4
        assert [_value(line) for line in log.splitlines() if "encoded_frames" in line] == frames


def test_all_weights_but_the_towers_are_trained(
    model_dir: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    folder = run(model_dir, pairs[:2], tmp_path, lora=None, freeze_vision=True, max_steps=1)
    before = load_file(model_dir / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    moved = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert any("language_model" in name for name in moved)
    assert not any("vision_tower" in name or "projector" in name for name in moved)


def _value(line: str) -> float:
    return float(line.split('"vision/encoded_frames": ')[1].split(",")[0].rstrip("}"))


def _as(row: Row, dtype: torch.dtype) -> Row:
    media = {k: v.to(dtype) if v.is_floating_point() else v for k, v in row.prompt.media.items()}
    return Row(replace(row.prompt, media=media), row.branches)
