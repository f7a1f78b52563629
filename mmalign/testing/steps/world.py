"""Model, frozen reference and records of the step benchmarks: random weights, a fixed shape."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from mmalign.errors import ConfigError
from mmalign.models.families import (
    FAMILIES,
    VIDEO,
    EncodedCompletion,
    EncodedPrompt,
    ModelFamily,
)
from mmalign.testing.tiny_models import tiny_llava_onevision, tiny_qwen2_5_vl
from mmalign.training.adapters import with_adapter
from mmalign.training.config import LoraSettings
from mmalign.training.forward import Row, base_model
from mmalign.training.reference import Reference

__all__ = ["Clip", "LlavaShape", "QwenShape", "World", "llava_world", "make_row", "qwen_world"]


@dataclass(frozen=True)
class LlavaShape:
    """Of a LLaVA-OneVision whose pair step at 2048 tokens takes one or two seconds on one core."""

    hidden_size: int = 256
    intermediate_size: int = 512
    num_layers: int = 6
    num_heads: int = 4
    vocab_size: int = 8192
    tower_hidden_size: int = 64
    tower_layers: int = 2
    frame_pixels: int = 56
    """Height and width; frames are cut into patches of 8, four of which make a token."""


@dataclass(frozen=True)
class QwenShape:
    """Of Qwen2.5-VL-7B."""

    hidden_size: int = 3584
    intermediate_size: int = 18944
    num_layers: int = 28
    num_heads: int = 28
    num_kv_heads: int = 4
    vocab_size: int = 152064
    tower_hidden_size: int = 1280
    tower_intermediate_size: int = 3420
    tower_layers: int = 32
    tower_heads: int = 16
    window_pixels: int = 112
    patch_pixels: int = 14
    frame_patches: int = 28
    """Patches along each side of a frame, even; four of them make a token of a frame pair."""
    lora_r: int = 16


class Clip(NamedTuple):
    """A clip as the tower takes it."""

    media: Mapping[str, Tensor]
    num_tokens: int


@dataclass(frozen=True)
class World:
    """What all layouts of one benchmark share."""

    name: str
    """Shape and share of the tower, as printed."""
    policy: nn.Module
    family: ModelFamily
    frozen: PreTrainedModel | None
    """Reference behind the same tower; None where it is the policy with its adapter off."""
    tower: nn.Module
    """Of the policy."""
    processor: Any
    """A real one of the family, for trainers that insist on it; the records need none."""
    video_token_id: int
    clip: Callable[[int], Clip]
    """A random clip of at most that many tokens."""

    @property
    def base(self) -> PreTrainedModel:
        """transformers' model inside the policy."""
        return base_model(self.policy)

    @property
    def reference(self) -> Reference:
        """The frozen copy, or the policy with its adapter switched off."""
        if self.frozen is None:
            return Reference(self.policy, self.family, adapter_off=True)
        return Reference(self.frozen, self.family, adapter_off=False)

    @property
    def models(self) -> list[nn.Module]:
        """All that hold weights."""
        return [self.policy] if self.frozen is None else [self.policy, self.frozen]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.base.device


def make_row(
    world: World, *, prompt_tokens: int, answer_tokens: int, branches: int, seed: int = 0
) -> Row:
    """A prompt about a clip that fills it as far as whole frames go, and answers of one length.

    Raises:
        ConfigError: The prompt has no room for a frame and a token of text.
    """
    source = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        clip = world.clip(prompt_tokens - 1)
    types = torch.zeros(prompt_tokens, dtype=torch.long)
    types[: clip.num_tokens] = VIDEO
    words = torch.randint(16, world.video_token_id - 16, (prompt_tokens,), generator=source)
    prompt = EncodedPrompt(
        input_ids=words.masked_fill(types > 0, world.video_token_id),
        media=clip.media,
        token_types=types,
        media_key=f"clip-{seed}-{prompt_tokens}",
        key=f"prompt-{seed}-{prompt_tokens}",
    )
    answers = tuple(
        EncodedCompletion(
            input_ids=torch.randint(
                16, world.video_token_id - 16, (answer_tokens,), generator=source
            ),
            mask=torch.ones(answer_tokens, dtype=torch.bool),
            offsets=((0, 0),) * answer_tokens,
        )
        for _ in range(branches)
    )
    return Row(prompt, answers).to(world.device)


def llava_world(shape: LlavaShape, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> World:
    """LLaVA-OneVision on the CPU, all weights of its language model trained, its tower frozen."""
    policy = _drawn(
        LlavaOnevisionForConditionalGeneration, _llava_config(shape), seed, "cpu", dtype
    )
    family = FAMILIES["llava_onevision"]
    for part in (family.decoder(policy), family.head(policy)):
        part.requires_grad_(True)
    frozen = copy.deepcopy(policy)
    _shift(frozen, seed)
    frozen.requires_grad_(False).eval()
    per_frame = (-(-shape.frame_pixels // 16)) ** 2

    def clip(most: int) -> Clip:
        frames = (most - 1) // per_frame
        _require_frames(frames, most, per_frame + 1)
        pixels = torch.randn(1, frames, 3, shape.frame_pixels, shape.frame_pixels, dtype=dtype)
        return Clip({"pixel_values_videos": pixels}, frames * per_frame + 1)

    return World(
        name=_name(policy, policy.model.vision_tower, shape.hidden_size, shape.vocab_size),
        policy=policy.train(),
        family=family,
        frozen=frozen,
        tower=policy.model.vision_tower,
        processor=tiny_llava_onevision().processor,
        video_token_id=shape.vocab_size - 2,
        clip=clip,
    )


def qwen_world(
    shape: QwenShape, *, device: str, dtype: torch.dtype = torch.bfloat16, seed: int = 0
) -> World:
    """Qwen2.5-VL under LoRA with activation checkpointing; the reference is the adapter off."""
    model = _drawn(Qwen2_5_VLForConditionalGeneration, _qwen_config(shape), seed, device, dtype)
    family = FAMILIES["qwen2_5_vl"]
    lora = LoraSettings(lora_r=shape.lora_r, lora_alpha=2 * shape.lora_r)
    policy = with_adapter(model, family, lora)
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:  # at zero, policy and reference would be one
                parameter.copy_(0.01 * torch.randn(parameter.shape))
    model.activation_checkpointing_enable({"use_reentrant": False})
    per_pair = (shape.frame_patches // 2) ** 2
    patch_values = 3 * 2 * shape.patch_pixels**2

    def clip(most: int) -> Clip:
        pairs = most // per_pair
        _require_frames(pairs, most, per_pair)
        grid = torch.tensor([[pairs, shape.frame_patches, shape.frame_patches]])
        patches = torch.randn(int(grid.prod()), patch_values).to(dtype)
        media = {"pixel_values_videos": patches, "video_grid_thw": grid}
        return Clip(media, pairs * per_pair)

    return World(
        name=_name(model, model.model.visual, shape.hidden_size, shape.vocab_size),
        policy=policy.train(),
        family=family,
        frozen=None,
        tower=model.model.visual,
        processor=tiny_qwen2_5_vl().processor,
        video_token_id=shape.vocab_size - 2,
        clip=clip,
    )


def _llava_config(shape: LlavaShape) -> LlavaOnevisionConfig:
    return LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": shape.tower_hidden_size,
            "intermediate_size": 2 * shape.tower_hidden_size,
            "num_hidden_layers": shape.tower_layers,
            "num_attention_heads": 2,
            "image_size": shape.frame_pixels,
            "patch_size": 8,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": shape.vocab_size,
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.num_heads,
            "num_key_value_heads": max(1, shape.num_heads // 2),
            "max_position_embeddings": 32768,
            "initializer_range": 0.05,  # at 0.02 a random model hardly looks at its media
        },
        image_token_index=shape.vocab_size - 1,
        video_token_index=shape.vocab_size - 2,
        image_grid_pinpoints=[[shape.frame_pixels, shape.frame_pixels]],
    )


def _qwen_config(shape: QwenShape) -> Qwen2_5_VLConfig:
    head_size = shape.hidden_size // shape.num_heads
    section = head_size * 3 // 16
    return Qwen2_5_VLConfig(
        vision_config={
            "depth": shape.tower_layers,
            "hidden_size": shape.tower_hidden_size,
            "intermediate_size": shape.tower_intermediate_size,
            "num_heads": shape.tower_heads,
            "patch_size": shape.patch_pixels,
            "window_size": shape.window_pixels,
            "out_hidden_size": shape.hidden_size,
            "fullatt_block_indexes": list(range(7, shape.tower_layers, 8)) or [0],
        },
        text_config={
            "vocab_size": shape.vocab_size,
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.num_heads,
            "num_key_value_heads": shape.num_kv_heads,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1000000.0,
                "mrope_section": [head_size // 2 - 2 * section, section, section],
            },
            "bos_token_id": None,
            "eos_token_id": None,
        },
        image_token_id=shape.vocab_size - 1,
        video_token_id=shape.vocab_size - 2,
        vision_start_token_id=shape.vocab_size - 3,
        vision_end_token_id=shape.vocab_size - 4,
    )


def _drawn(model_class: Any, config: Any, seed: int, device: str, dtype: torch.dtype) -> Any:
    """Drawn on its device, every weight frozen."""
    devices = [torch.device(device)] if device != "cpu" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(seed)
        model = model_class._from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model.requires_grad_(False)


def _shift(model: nn.Module, seed: int) -> None:
    """Make a copy of the policy a model of its own, behind the same tower."""
    source = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            noise = torch.randn(parameter.shape, generator=source, dtype=parameter.dtype)
            parameter.add_(noise * 0.01)


def _require_frames(num_frames: int, most: int, least: int) -> None:
    if num_frames < 1:
        raise ConfigError(
            f"a prompt of {most + 1} tokens has no room for a frame of {least} tokens and one "
            f"token of text; ask for {least + 1} or more"
        )


def _name(model: nn.Module, tower: nn.Module, hidden_size: int, vocab_size: int) -> str:
    total = sum(p.numel() for p in model.parameters())
    of_tower = sum(p.numel() for p in tower.parameters())
    return (
        f"{type(model).__name__}, {total / 1e6:.1f} M weights, hidden {hidden_size}, vocabulary "
        f"{vocab_size}, tower {of_tower / total:.1%}"
    )
