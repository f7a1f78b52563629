"""Read weights and processors from a folder or the hub: safetensors only, no foreign code."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from mmalign.errors import ConfigError

__all__ = ["bare_model", "linear_names", "load_model", "load_processor"]


def load_model(
    model_class: Any,
    path: str,
    *,
    dtype: torch.dtype,
    device: str,
    revision: str | None,
    attn_implementation: str | None,
) -> PreTrainedModel:
    """The model in eval mode on its device.

    Raises:
        ConfigError: There are no such weights, or they are not safetensors.
    """
    try:
        model: PreTrainedModel = model_class.from_pretrained(
            path,
            dtype=dtype,
            revision=revision or "main",
            attn_implementation=attn_implementation,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"model {path!r} cannot be loaded: {error}") from error
    return model.to(device).eval()  # type: ignore[arg-type, no-any-return]  # stubs take no str


def load_processor(processor_class: Any, path: str, *, revision: str | None) -> Any:
    """The processor or tokenizer that belongs to a model.

    Raises:
        ConfigError: There is none.
    """
    try:
        return processor_class.from_pretrained(
            path, revision=revision or "main", trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"processor of {path!r} cannot be loaded: {error}") from error


def bare_model(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def linear_names(model: nn.Module, part: nn.Module) -> list[str]:
    """Full names of the linear layers of one part of a model."""
    inside = {id(module) for module in part.modules()}
    kinds = ("Linear", "Conv1D")  # Conv1D is GPT-2's name for a linear layer
    return [
        name
        for name, module in model.named_modules()
        if id(module) in inside and type(module).__name__ in kinds
    ]
