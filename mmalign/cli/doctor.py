"""mmalign doctor: does this machine have what the parts need?"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["add_to"]

_PACKAGES = ("torch", "torchvision", "torchaudio", "transformers", "accelerate", "peft")
_PACKAGES += ("langgraph", "openai", "av", "decord", "datasets")


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("doctor", epilog="Example: mmalign doctor")(doctor)


def doctor() -> int:
    """Check versions, decoders, devices and folders; exit 1 when something needed is broken."""
    rows = [*_packages(), _device(), _decoding(), _links(), _disk()]
    table = Table(title=f"mmalign on Python {platform.python_version()}, {platform.platform()}")
    for column in ("what", "state", "found"):
        table.add_column(column)
    for what, works, found in rows:
        table.add_row(what, "[green]ok[/green]" if works else "[red]broken[/red]", found)
    Console().print(table)
    return 0 if all(works for _, works, _ in rows) else 1


def _packages() -> list[tuple[str, bool, str]]:
    rows = []
    for name in _PACKAGES:
        try:
            rows.append((name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            optional = name == "decord"  # PyAV decodes where its wheel does not exist
            rows.append((name, optional, "not installed"))
    return rows


def _device() -> tuple[str, bool, str]:
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return "device", True, f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return "device", True, f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _decoding() -> tuple[str, bool, str]:
    """Write a clip and read it back with every decoder that is here."""
    import tempfile

    import numpy as np

    from mmalign.errors import MediaError
    from mmalign.media import FrameSampling, load_video, write_video
    from mmalign.records import MediaRef

    frames = np.full((4, 32, 32, 3), 200, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, 8.0)
        try:
            clip = load_video(MediaRef(kind="video", uri=str(path)), FrameSampling(num_frames=2))
        except MediaError as error:
            return "decoding", False, str(error)
    close = bool(np.abs(clip.frames.astype(int) - 200).max() < 8)
    return "decoding", close, f"write and read H.264, by {clip.decoder}"


def _links() -> tuple[str, bool, str]:
    missing = [
        name
        for name in ("agents", "tools", "datasets")
        if importlib.util.find_spec(f"mmalign.{name}") is None
    ]
    found = (
        f"missing: {', '.join(missing)}; run make links" if missing else "agents, tools, datasets"
    )
    return "plug-ins", not missing, found


def _disk() -> tuple[str, bool, str]:
    from mmalign.media import default_cache

    folder = default_cache().folder
    free = shutil.disk_usage(_existing(folder)).free / 2**30
    return "cache", free > 1, f"{folder}, {free:.1f} GiB free"


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
