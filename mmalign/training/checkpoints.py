"""Checkpoints that count only when complete, and runs that resume only what they began."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmalign.errors import CheckpointError
from mmalign.records.atomic import write_text

__all__ = ["begin_run", "finish_checkpoint", "is_finished", "last_checkpoint", "mark_finished"]

_MARKER = "complete.json"
_MANIFEST = "manifest.json"


def begin_run(output_dir: Path, manifest: Mapping[str, Any]) -> Path | None:
    """Make the folder this run's own; return the checkpoint to resume from, if there is one.

    Raises:
        CheckpointError: The folder belongs to a run with other data, model or settings.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / _MANIFEST
    if not path.exists():
        _write_json(path, manifest)
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(manifest))
    if found != wanted:
        keys = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
        diff = "; ".join(f"{k}: was {found.get(k)!r}, now {wanted.get(k)!r}" for k in keys)
        raise CheckpointError(
            f"{output_dir} holds a training run with other settings ({diff}). "
            f"Give another output_dir, or delete this one to start again"
        )
    return last_checkpoint(output_dir)


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that is complete."""
    complete = [f for f in _checkpoints(output_dir) if (f / _MARKER).exists()]
    return complete[-1] if complete else None


def finish_checkpoint(folder: Path, manifest: Mapping[str, Any], *, keep: int) -> None:
    """Mark a checkpoint complete, then remove those that are too many."""
    for file in folder.iterdir():
        _sync(file)
    _write_json(folder / _MARKER, {"manifest": dict(manifest)})
    complete = [f for f in _checkpoints(folder.parent) if (f / _MARKER).exists()]
    for old in complete[:-keep]:
        (old / _MARKER).unlink()
        shutil.rmtree(old)


def mark_finished(output_dir: Path, results: Mapping[str, Any]) -> None:
    """Write all_results.json, the sign that nothing is left to train."""
    _write_json(output_dir / "all_results.json", results)


def is_finished(output_dir: Path) -> bool:
    """Whether training ended and its model is saved."""
    return (output_dir / "all_results.json").exists()


def _checkpoints(output_dir: Path) -> list[Path]:
    found = [f for f in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", f.name)]
    return sorted(found, key=lambda f: int(f.name.rpartition("-")[2]))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=1))  # several processes may do so at once


def _sync(path: Path) -> None:
    if path.is_file():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
