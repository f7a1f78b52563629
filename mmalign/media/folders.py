"""Where what can be made again is kept."""

import os
from pathlib import Path

from mmalign.media.cache import FrameCache

__all__ = ["cache_folder", "default_cache"]

_FRAMES_BYTES = 20 * 2**30


def cache_folder(name: str) -> Path:
    """Folder of one kind of cached things, below $MMALIGN_CACHE_DIR or ~/.cache/mmalign."""
    root = os.environ.get("MMALIGN_CACHE_DIR") or Path.home() / ".cache" / "mmalign"
    return Path(root) / name


def default_cache() -> FrameCache:
    """The user's cache of decoded frames."""
    return FrameCache(cache_folder("frames"), _FRAMES_BYTES)
