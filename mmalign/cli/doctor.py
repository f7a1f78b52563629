"""mmalign doctor: does this machine have what the parts need?"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from mmalign.errors import MediaError, SandboxError, StoreError

__all__ = ["add_to"]

_PACKAGES = (
    "torch",
    "torchvision",
    "torchaudio",
    "transformers",
    "accelerate",
    "peft",
    "langgraph",
    "openai",
    "av",
    "decord",
    "datasets",
)
_OPTIONAL = ("decord",)  # PyAV decodes where its wheel does not exist


class Finding(NamedTuple):
    """One line of the table."""

    what: str
    works: bool
    found: str


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("doctor", epilog="Example: mmalign doctor --json")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check versions, decoders, devices, folders and the sandbox; exit 1 when one is broken."""
    findings = [*_packages(), _library(), _device(), _decoding(), _plugins(), _cache(), *_sandbox()]
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        table = Table(title=f"mmalign on Python {platform.python_version()}, {platform.platform()}")
        for column in ("what", "state", "found"):
            table.add_column(column, overflow="fold")
        for what, works, found in findings:
            table.add_row(what, "[green]ok[/green]" if works else "[red]broken[/red]", found)
        Console().print(table)
    if not all(finding.works for finding in findings):
        raise typer.Exit(1)


def _packages() -> list[Finding]:
    findings = []
    for name in _PACKAGES:
        try:
            findings.append(Finding(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, name in _OPTIONAL, "not installed"))
    return findings


def _library() -> Finding:
    """Whether `import datasets` means the library, not a folder of that name."""
    spec = importlib.util.find_spec("datasets")
    origin = None if spec is None else spec.origin
    if origin is None:
        found = "import datasets finds a folder, not the library; install datasets"
        return Finding("import datasets", False, found)
    return Finding("import datasets", True, origin)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        return Finding("device", True, f"{torch.cuda.device_count()} x {properties.name}, {memory}")
    return Finding(
        "device", True, f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )


def _decoding() -> Finding:
    """Write a clip and read it back."""
    import numpy as np

    from mmalign.media import FrameSampling, load_video, write_video
    from mmalign.records import MediaRef

    frames = np.full((4, 32, 32, 3), 200, dtype=np.uint8)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            write_video(path, frames, 8.0)
            clip = load_video(MediaRef(kind="video", uri=str(path)), FrameSampling(num_frames=2))
    except (MediaError, OSError) as error:
        return Finding("decoding", False, str(error))
    close = bool(np.abs(clip.frames.astype(int) - 200).max() < 8)
    return Finding("decoding", close, f"writes and reads H.264, by {clip.decoder}")


def _plugins() -> Finding:
    names = ("agents", "tools", "datasets")
    missing = [name for name in names if importlib.util.find_spec(f"mmalign.{name}") is None]
    if missing:
        return Finding("plug-ins", False, f"missing: {', '.join(missing)}; run make links")
    return Finding("plug-ins", True, ", ".join(names))


def _cache() -> Finding:
    from mmalign.media import default_cache

    try:
        folder = default_cache().folder
    except StoreError as error:
        return Finding("cache", False, str(error))
    free = shutil.disk_usage(folder).free / 2**30
    return Finding("cache", free > 1, f"{folder}, {free:.1f} GiB free")


def _sandbox() -> list[Finding]:
    """Attack it by every way out that is known."""
    from mmalign.sandbox import Sandbox

    with Sandbox() as sandbox:
        try:
            means = sandbox.describe()
        except SandboxError as error:
            return [Finding("sandbox", False, str(error))]
        found = "; ".join(f"{name}: {value}" for name, value in means.items())
        return [
            Finding("sandbox", True, found),
            *(Finding(f"sandbox: {one.name}", one.holds, one.found) for one in sandbox.self_test()),
        ]
