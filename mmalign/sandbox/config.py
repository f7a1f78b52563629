"""Where generated code may run, and how much it may use."""

from typing import Literal, get_args

from pydantic import Field

from mmalign.config import Config

__all__ = ["ISOLATION_LEVELS", "Isolation", "Limits", "SandboxConfig"]

Isolation = Literal["process", "namespaces", "gvisor"]
"""From weakest to strongest: limits only; bubblewrap; gVisor's kernel."""

ISOLATION_LEVELS: tuple[Isolation, ...] = get_args(Isolation)


class Limits(Config):
    """What one run may use; past a limit the run is ended and its status says which."""

    wall_s: float = Field(default=10.0, gt=0)
    """Seconds by the clock."""
    cpu_s: float = Field(default=8.0, gt=0)
    """Seconds of processor time, of all its processes."""
    memory_bytes: int = Field(default=2 * 1024**3, ge=64 * 1024**2)
    """Address space of each process, and memory of all together."""
    num_processes: int = Field(default=32, gt=0)
    """Processes and threads alive at once."""
    num_files: int = Field(default=64, ge=16)
    """Files open at once in each process."""
    file_bytes: int = Field(default=16 * 1024**2, gt=0)
    """Size of one file."""
    work_bytes: int = Field(default=64 * 1024**2, gt=0)
    """Size of the work folder, which is gone after the run; /dev/shm has as much again."""
    output_bytes: int = Field(default=1024**2, ge=256)
    """Of standard output and standard error each; what is longer is cut in the middle, and a run
    that prints eight times as much is ended."""


class SandboxConfig(Config):
    """How generated code is run."""

    isolation: Isolation = "namespaces"
    """The least that must hold; where it does not, nothing is run."""
    trusted: bool = False
    """Say yes to run with isolation: process, which keeps nothing from the code."""
    url: str | None = None
    """A server that speaks SandboxFusion's protocol, instead of this machine."""
    packages: tuple[str, ...] = ("numpy",)
    """Installed distributions that programs may import beside the standard library. Name no more
    than they need: a benchmark's package, for one, may carry its solutions."""
    limits: Limits = Limits()
    """Of one run."""
    num_workers: int | None = Field(default=None, gt=0)
    """Runs at once; None: one for each processor core."""
