"""This process among those that train together."""

import os

import torch

from mmalign.errors import ConfigError

__all__ = ["own_device", "require_launched_processes"]


def own_device() -> str:
    """Of this process among those of its machine, as accelerate will choose it."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def require_launched_processes() -> None:
    """A launcher that set WORLD_SIZE must also have set up the process group's address."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" not in os.environ:
        raise ConfigError(
            "WORLD_SIZE is set but MASTER_ADDR is not; start several processes with torchrun "
            "--nproc_per_node N"
        )
