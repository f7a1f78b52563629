"""Features behind a frozen tower: computed once for each unit of media, shared by all who ask.

A unit is what sees nothing else in the tower (`ModelFamily.split_media`): a frame, what a tower
merges of several frames, a picture, a sound. Units are known by their content, so a clip that is
reversed, shuffled or cut short brings nothing new.

Units of one form go through the tower together. None sees another, but the order of sums in a
matrix product depends on its size: features agree to rounding (1e-5 in float32), whatever batch
they came in. So a run that finds them stored equals one that computes them to rounding; where they
live for one step only, the step decides its batches and repeated steps agree bit for bit.
"""

import logging
import os
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
from mmalign.training.tensor_files import drop_partials, read_tensors, write_tensors

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
_UNITS_PER_RUN = 32
"""Of the tower. As many frames as a usual clip has, which it took at once anyway."""
_NAMED_PROMPTS = 2**14
"""Prompts whose units' names are remembered: hashing pixels takes as long as reading them."""
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
    """Features on disk, a file for each unit, the least recently used dropped above a size.

    Args:
        folder: Of one tower.
        max_bytes: Of this tower's files; each process may go 1% beyond it before it looks again.
    """

    def __init__(self, folder: Path, max_bytes: int = _DISK_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._bytes_until_look = 0
        drop_partials(folder)

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
        self._bytes_until_look -= features.nbytes
        if self._bytes_until_look < 0:
            self._evict()
            self._bytes_until_look = self.max_bytes // 100

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
    """Features of what prompts show, each distinct unit through the tower once.

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
        self._names: OrderedDict[str, list[str]] = OrderedDict()
        self.num_encoded = 0
        """Units (frames, pictures, sounds) that went through the tower so far."""
        self.num_runs = 0
        """In how many runs of it."""

    def begin_step(self) -> None:
        """Forget the last step's features, unless they are to be kept across steps."""
        if not self._across_steps:
            self._kept.clear()
            self._num_bytes = 0

    def of(self, rows: Sequence[Row]) -> list[Tensor]:
        """[M, H] for each row that shows something, in order, without gradient."""
        prompts = [row.prompt for row in rows if row.prompt.media]
        names: list[list[str]] = []
        units: dict[str, Mapping[str, Tensor]] = {}
        for prompt in prompts:
            parts = self._family.split_media(prompt.media)
            names.append(self._names_of(prompt, parts))
            units |= zip(names[-1], parts, strict=True)
        recalled = {name: self._recall(name) for name in units}
        found = {name: kept for name, kept in recalled.items() if kept is not None}
        found |= self._encode({name: units[name] for name in units if name not in found})
        found = {name: kept.to(rows[0].prompt.input_ids.device) for name, kept in found.items()}
        return [
            self._family.join_features(prompt.media, [found[name] for name in own])
            for prompt, own in zip(prompts, names, strict=True)
        ]

    def _names_of(self, prompt: EncodedPrompt, parts: Iterable[Mapping[str, Tensor]]) -> list[str]:
        """What the units are known by; where the prompt's media have a name, hashed once."""
        known = self._names.pop(prompt.media_key, None)
        if known is None:
            known = [tensors_hash(sorted(part.items())) for part in parts]
        if prompt.media_key:
            self._names[prompt.media_key] = known
            while len(self._names) > _NAMED_PROMPTS:
                self._names.popitem(last=False)
        return known

    def _recall(self, key: str) -> Tensor | None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        features = self._files.get(key) if self._files else None
        if features is not None:
            self._keep(key, features)
        return features

    @torch.no_grad()
    def _encode(self, units: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """[m, H] of each unit that is not there yet, those of one form in common runs."""
        alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
        for name, unit in units.items():
            alike[_form(unit)].append(name)
        runs = [
            names[start : start + _UNITS_PER_RUN]
            for names in alike.values()
            for start in range(0, len(names), _UNITS_PER_RUN)
        ]
        found: dict[str, Tensor] = {}
        for names in runs:
            media = self._family.join_media([units[name] for name in names])
            features = self._family.media_embeds(base_model(self._model), media)
            self.num_runs += 1
            self.num_encoded += len(names)
            # a copy each: a view would keep all units of the run as long as one of them
            copies = [part.clone() for part in torch.unflatten(features, 0, (len(names), -1))]
            found |= zip(names, copies, strict=True)
        for name, features in found.items():
            if self._files:
                self._files.put(name, features)
            self._keep(name, features.cpu() if self._across_steps else features)
        return found

    def _keep(self, key: str, features: Tensor) -> None:
        self._kept[key] = features
        self._num_bytes += features.nbytes
        while self._num_bytes > self._max_bytes:
            self._num_bytes -= self._kept.popitem(last=False)[1].nbytes


def _form(unit: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """Equal for units with equally many tokens: shapes of pixels and spectra, numbers of sizes."""
    numbers = {n: v.flatten().tolist() for n, v in unit.items() if not v.is_floating_point()}
    return tuple((n, v.shape, tuple(numbers.get(n, ()))) for n, v in sorted(unit.items()))


def shared_features(
    model: nn.Module,
    family: ModelFamily,
    processor: Any,  # transformers' processors share no typed base
    *,
    keep: VisionCache,
    max_bytes: int,
    plain_layout: bool,
    with_dropout: bool,
    bf16: bool,
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
        bf16: It computes in bfloat16, whatever its weights are.

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
    files = (
        FeatureFiles(_tower_folder(base, tower, processor, bf16=bf16)) if keep == "disk" else None
    )
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
            f"trainer.freeze_vision: lora.lora_target_modules or lora.modules_to_save trains "
            f"{adapted[0]!r}; remove one of the two settings"
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


def _tower_folder(
    base: PreTrainedModel, tower: dict[str, nn.Parameter], processor: Any, *, bf16: bool
) -> Path:
    parts = {
        "weights": tensors_hash(sorted(tower.items())),
        "config": {k: v for k, v in base.config.to_diff_dict().items() if k != "text_config"},
        "processor": processor_fingerprint(processor),
        "bf16": bf16,
        "device": next(iter(tower.values())).device.type,
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    return cache_folder("vision") / content_id(parts)
