"""Whisper's encoder out of the files in which packages ship it."""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, WhisperConfig, WhisperModel

from mmalign.errors import ConfigError
from mmalign.models.audio_visual.sound_encoder import SoundEncoder

__all__ = ["read_ctranslate2", "sound_encoder_of"]

_FORMAT_VERSION = 6
_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 4: np.dtype("<f2")}
_HEAD_SIZE = 64
_NAMES = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
"""Parts of a layer that are called differently and are otherwise the same."""


def sound_encoder_of(path: str | Path) -> SoundEncoder:
    """The encoder of a Whisper model, in float32.

    Args:
        path: A folder of transformers, or a `model.bin` of CTranslate2 that is not quantised.

    Raises:
        ConfigError: It is neither.
    """
    path = Path(path)
    if path.is_dir():
        config = AutoConfig.from_pretrained(path)
        if not isinstance(config, WhisperConfig):
            raise ConfigError(
                f"{path}: a model of type {config.model_type!r}, expected whisper; give the folder "
                f"of a Whisper model or a model.bin of CTranslate2"
            )
        weights = WhisperModel.from_pretrained(path, dtype=torch.float32).encoder.state_dict()
    else:
        config, weights = _from_ctranslate2(path)
    encoder = SoundEncoder(config)
    encoder.load_state_dict(weights)
    encoder.train(False)
    return encoder


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Variables of a `model.bin`, by name, in float32.

    Raises:
        ConfigError: There is no such file, it is no model of this format, or it is quantised.
    """
    try:
        with path.open("rb") as file:
            return _read_variables(file, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(
            f"{path}: no model.bin of CTranslate2, or cut off ({error}); give a whole one"
        ) from error


def _read_variables(file: BinaryIO, path: Path) -> dict[str, Tensor]:
    (version,) = _unpack(file, "<I")
    if version != _FORMAT_VERSION:
        raise ConfigError(
            f"{path}: format version {version}, expected {_FORMAT_VERSION}; give a model.bin that "
            f"CTranslate2 3 or 4 wrote"
        )
    _read_name(file)
    _, num_variables = _unpack(file, "<II")
    variables = {}
    for _ in range(num_variables):
        name = _read_name(file)
        (rank,) = _unpack(file, "<B")
        shape = _unpack(file, f"<{rank}I")
        kind, num_bytes = _unpack(file, "<BI")
        if kind in _TYPES:
            values = np.frombuffer(file.read(num_bytes), _TYPES[kind]).reshape(shape)
            variables[name] = torch.from_numpy(values.astype(np.float32))
        elif name.endswith("/weight"):
            raise ConfigError(
                f"{path}: {name} is quantised, expected float32 or float16; convert the model "
                f"without quantization"
            )
        else:  # a setting
            file.seek(num_bytes, 1)
    return variables


def _unpack(file: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _read_name(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<H")
    return file.read(length).rstrip(b"\0").decode("ascii")


def _from_ctranslate2(path: Path) -> tuple[WhisperConfig, dict[str, Tensor]]:
    variables = read_ctranslate2(path)
    found = {
        name.removeprefix("encoder/"): value
        for name, value in variables.items()
        if name.startswith("encoder/") and value.ndim
    }
    try:
        width, num_mel_bins, _ = found["conv1/weight"].shape
        positions = found["position_encodings/encodings"]
        num_layers = len({name.split("/")[0] for name in found if name.startswith("layer_")}) - 1
        config = WhisperConfig(
            num_mel_bins=num_mel_bins,
            d_model=width,
            encoder_layers=num_layers,
            encoder_attention_heads=width // _HEAD_SIZE,
            encoder_ffn_dim=len(found["layer_0/ffn/linear_0/bias"]),
            max_source_positions=len(positions),
        )
        weights = {
            "embed_positions.weight": positions,
            "layer_norm.weight": found["layer_norm/gamma"],
            "layer_norm.bias": found["layer_norm/beta"],
        }
        for part in ("conv1", "conv2"):
            weights |= {f"{part}.{kind}": found[f"{part}/{kind}"] for kind in ("weight", "bias")}
        for index in range(num_layers):
            weights |= _layer(found, index)
    except KeyError as error:
        raise ConfigError(
            f"{path}: no encoder of Whisper, there is no variable {error}; give the model.bin of a "
            f"Whisper model"
        ) from error
    return config, weights


def _layer(found: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    """Weights of one layer; the rows of query, key and value lie in one matrix."""
    old, new = f"layer_{index}", f"layers.{index}"
    weights = {}
    for theirs, ours in _NAMES.items():
        scale, shift = ("gamma", "beta") if theirs.endswith("norm") else ("weight", "bias")
        weights[f"{new}.{ours}.weight"] = found[f"{old}/{theirs}/{scale}"]
        weights[f"{new}.{ours}.bias"] = found[f"{old}/{theirs}/{shift}"]
    for kind in ("weight", "bias"):
        parts = found[f"{old}/self_attention/linear_0/{kind}"].chunk(3)
        for part, value in zip("qkv", parts, strict=True):
            weights[f"{new}.self_attn.{part}_proj.{kind}"] = value
    del weights[f"{new}.self_attn.k_proj.bias"]  # all zero: Whisper's keys have none
    return weights
