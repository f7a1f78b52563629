"""Tensors in safetensors files that are there whole or not at all."""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mmalign.errors import StoreError

__all__ = ["drop_partials", "read_tensors", "write_tensors"]

_PARTIAL = ".partial"
_WRITING_S = 3600.0
"""Nobody writes one file for longer."""

_log = logging.getLogger(__name__)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a file under another name and rename it; its folder is made where it is missing.

    Raises:
        StoreError: The disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, suffix=_PARTIAL)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(save({name: t.contiguous() for name, t in tensors.items()}))
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); make room, or set MMALIGN_CACHE_DIR "
            f"to a folder that can be written"
        ) from error


def drop_partials(folder: Path) -> None:
    """Remove what killed writers left; what another process may be writing stays."""
    for path in folder.glob(f"*{_PARTIAL}"):
        with contextlib.suppress(OSError):  # somebody else was faster, or it is not ours
            if time.time() - path.stat().st_mtime > _WRITING_S:
                path.unlink()


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file on the CPU; None where it is not there or damaged, and then dropped."""
    try:
        return load_file(path)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        _log.warning("%s: damaged file dropped (%s)", path, error)
        path.unlink(missing_ok=True)
        return None
