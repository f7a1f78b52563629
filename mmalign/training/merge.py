"""Merge an adapter into its base model: plain transformers weights that load anywhere."""

from pathlib import Path

import torch
from peft import PeftConfig, PeftModel

from mmalign.errors import ConfigError
from mmalign.models.families import family_of

__all__ = ["merge_adapter"]


def merge_adapter(adapter_dir: Path, output_dir: Path, *, base_model: str | None = None) -> Path:
    """Write base model plus adapter as one model with its processor.

    Args:
        adapter_dir: A folder with adapter_config.json.
        output_dir: Gets config, safetensors and processor files.
        base_model: Where the base model is, if not where the adapter's config says.

    Raises:
        ConfigError: The folder holds no adapter.
    """
    if not (adapter_dir / "adapter_config.json").exists():
        raise ConfigError(f"{adapter_dir}: no adapter_config.json; a full model needs no merging")
    base = base_model or PeftConfig.from_pretrained(str(adapter_dir)).base_model_name_or_path
    if not base:
        raise ConfigError(f"{adapter_dir}: the adapter does not name its base model; give it")
    model, processor = family_of(base).load(base, dtype=torch.float32, device="cpu")
    merged = PeftModel.from_pretrained(model, str(adapter_dir)).merge_and_unload()
    merged.config.use_cache = True
    merged.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    return output_dir
