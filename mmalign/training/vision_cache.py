"""Features behind a frozen vision tower: computed once for each clip, shared by all who ask.

A clip here is all that a prompt shows, so one clip in two prompts with different further media is
computed twice. Every clip goes through the tower alone: its features do not depend on the batch
that it came in, so a run that finds them stored equals one that computes them.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmalign.errors import ConfigError, StoreError
from mmalign.media import cache_folder
from mmalign.models.families import EncodedPrompt, ModelFamily
from mmalign.records import content_id
from mmalign.training.fingerprints import processor_fingerprint, tensors_hash
from mmalign.training.forward import Row, base_model
from mmalign.training.tensor_files import read_tensors, write_tensors

__all__ = [
    "FeatureFiles",
    "VisionCache",
    "VisionFeatures",
    "freeze_vision",
    "same_tower",
    "shared_features",
]

VisionCache = Literal["none", "memory", "disk"]
_DISK_BYTES = 50 * 2**30
_NOT_OF_TOWERS = {
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "text_config",
    "tie_word_embeddings",
    "use_cache",
}
"""Settings that no tower reads; trainers change some of them."""
_NAME = "features"
_log = logging.getLogger(__name__)


class FeatureFiles:
    """Features on disk, a file for each clip, the least recently used dropped above a size.

    Args:
        folder: Of one tower.
        max_bytes: Of this tower's files.
    """

    def __init__(self, folder: Path, max_bytes: int = _DISK_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def get(self, key: str) -> Tensor | None:
        """The features, or None."""
        path = self._path(key)
        found = read_tensors(path)
        if found is None:
            return None
        os.utime(path)
        return found[_NAME]

    def put(self, key: str, features: Tensor) -> None:
        """Keep features. A full disk is logged and does no harm: they were computed anyway."""
        try:
            write_tensors(self._path(key), {_NAME: features.cpu()})
        except StoreError as error:
            _log.warning("%s", error)
        self._evict()

    def _evict(self) -> None:
        states = [(path, path.stat()) for path in self.folder.glob("*.safetensors")]
        excess = sum(state.st_size for _, state in states) - self.max_bytes
        for path, state in sorted(states, key=lambda item: item[1].st_mtime):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= state.st_size

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


class VisionFeatures:
    """Features of what prompts show, each distinct clip through the tower once.

    Args:
        model: Holds the frozen tower and projector.
        family: Its adapter.
        max_bytes: Features that stay in memory, the most recently used of them.
        across_steps: Keep them, in the CPU's memory, when a step ends.
        files: Where they are kept for the next run.
    """

    def __init__(
        self,
        model: nn.Module,
        family: ModelFamily,
        *,
        max_bytes: int,
        across_steps: bool = False,
        files: FeatureFiles | None = None,
    ) -> None:
        self._model = model
        self._family = family
        self._max_bytes = max_bytes
        self._across_steps = across_steps
        self._files = files
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._num_bytes = 0
        self.num_encoded = 0
        """Clips that went through the tower so far."""

    def begin_step(self) -> None:
        """Forget the last step's features, unless they are to be kept across steps."""
        if not self._across_steps:
            self._kept.clear()
            self._num_bytes = 0

    def of(self, rows: Sequence[Row]) -> list[Tensor]:
        """[M, H] for each row that shows something, in order, without gradient."""
        found: dict[str, Tensor] = {}
        keys = []
        for row in rows:
            if not row.prompt.media:
                continue
            key = row.prompt.media_key or tensors_hash(sorted(row.prompt.media.items()))
            keys.append(key)
            if key not in found:
                features = self._recall(key)
                if features is None:
                    features = self._encode(key, row.prompt)
                found[key] = features.to(row.prompt.input_ids.device)
        return [found[key] for key in keys]

    def _recall(self, key: str) -> Tensor | None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        features = self._files.get(key) if self._files else None
        if features is not None:
            self._keep(key, features)
        return features

    @torch.no_grad()
    def _encode(self, key: str, prompt: EncodedPrompt) -> Tensor:
        media = self._family.join_media([prompt.media])
        features = self._family.media_embeds(base_model(self._model), media)
        self.num_encoded += 1
        if self._files:
            self._files.put(key, features)
        self._keep(key, features.cpu() if self._across_steps else features)
        return features

    def _keep(self, key: str, features: Tensor) -> None:
        self._kept[key] = features
        self._num_bytes += features.nbytes
        while self._num_bytes > self._max_bytes:
            self._num_bytes -= self._kept.popitem(last=False)[1].nbytes


def shared_features(
    model: nn.Module,
    family: ModelFamily,
    processor: Any,  # transformers' processors share no typed base
    *,
    keep: VisionCache,
    max_bytes: int,
    plain_layout: bool,
    with_dropout: bool,
) -> VisionFeatures | None:
    """Features that may be shared, or None where every pass has to compute its own.

    Args:
        model: The policy, with its adapter.
        family: Its adapter to our interface.
        processor: Makes pixels of frames; what is kept on disk is keyed by it.
        keep: For how long.
        max_bytes: Of features in memory.
        plain_layout: The forward pass is transformers' own, which reads pixels.
        with_dropout: The tower draws anew at every pass.

    Raises:
        ConfigError: Features are to be kept across steps, but change from step to step.
    """
    base = base_model(model)
    tower = _tower(base, family)
    why = None
    if not tower:
        why = f"{family.name} has no tower"
    elif getattr(base.config, "clue_aggregator", None) is not None:
        why = "what the clue aggregator makes of a clip depends on the question"
    elif any(parameter.requires_grad for parameter in tower.values()):
        why = "the tower is trained; set trainer.freeze_vision: true"
    elif with_dropout:
        why = "dropout in the tower draws anew at every pass; set trainer.disable_dropout: true"
    elif plain_layout:
        why = "the plain layout gives the model pixels; set trainer.layout: branch"
    if why is not None:
        if keep != "none":
            raise ConfigError(
                f"trainer.vision_cache: {keep} keeps features across steps, but {why}, or "
                f"trainer.vision_cache: none"
            )
        return None
    files = FeatureFiles(_tower_folder(base, tower, processor)) if keep == "disk" else None
    return VisionFeatures(
        model, family, max_bytes=max_bytes, across_steps=keep != "none", files=files
    )


def freeze_vision(model: nn.Module, family: ModelFamily) -> None:
    """Take tower and projector out of training.

    Raises:
        ConfigError: There are none, or the adapter is to be trained on them.
    """
    tower = _tower(base_model(model), family)
    if not tower:
        raise ConfigError(
            f"trainer.freeze_vision: {family.name} has no vision tower; remove the setting"
        )
    adapted = [name for name, parameter in tower.items() if parameter.requires_grad]
    if isinstance(model, PeftModel) and adapted:
        raise ConfigError(
            f"trainer.freeze_vision: lora.lora_target_modules put an adapter on {adapted[0]!r}; "
            f"remove one of the two settings"
        )
    for parameter in tower.values():
        parameter.requires_grad_(False)


def same_tower(one: nn.Module, other: nn.Module, family: ModelFamily) -> bool:
    """Whether two models give the same features: weights and settings of the towers agree."""
    if one is other:
        return True
    bases = base_model(one), base_model(other)
    towers = [_tower(base, family) for base in bases]
    return (
        _settings(bases[0]) == _settings(bases[1])
        and towers[0].keys() == towers[1].keys()
        and all(torch.equal(weight, towers[1][name]) for name, weight in towers[0].items())
    )


def _tower(base: PreTrainedModel, family: ModelFamily) -> dict[str, nn.Parameter]:
    """All that stands before the text decoder, by name."""
    parts = (family.decoder(base), family.head(base), family.embed_tokens(base))
    of_text = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name: p for name, p in base.named_parameters() if id(p) not in of_text}


def _settings(base: PreTrainedModel) -> dict[str, Any]:
    settings: dict[str, Any] = base.config.to_dict()
    return {name: value for name, value in settings.items() if name not in _NOT_OF_TOWERS}


def _tower_folder(base: PreTrainedModel, tower: dict[str, nn.Parameter], processor: Any) -> Path:
    parts = {
        "weights": tensors_hash(sorted(tower.items())),
        "config": {k: v for k, v in base.config.to_diff_dict().items() if k != "text_config"},
        "processor": processor_fingerprint(processor),
        "device": next(iter(tower.values())).device.type,
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    return cache_folder("vision") / content_id(parts)
