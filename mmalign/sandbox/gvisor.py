"""The level gvisor: a kernel of its own, by gVisor's `runsc`, without root and without a network."""

from pathlib import Path

from mmalign.sandbox.process import Launch
from mmalign.sandbox.runtime import Runtime

__all__ = ["gvisor_launch"]


def gvisor_launch(
    executable: Path, runtime: Runtime, places: dict[Path, str], work_bytes: int
) -> Launch:
    """Later."""
    raise NotImplementedError
