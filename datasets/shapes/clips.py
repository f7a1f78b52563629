"""What the rendered worlds share: clips that are made on demand, settings with known names."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

from mmalign.api import ConfigError, MediaRef, cache_folder, file_hash

__all__ = ["require_known", "stored_clip"]


def stored_clip(
    world: str,
    name: str,
    render: Callable[[Path], None],
    *,
    root: str | Path | None,
    kind: Literal["video", "image"] = "video",
) -> MediaRef:
    """A clip's or picture's file, rendered if it is not there yet.

    Args:
        world: Names the cache folder.
        name: The file's path in it, `v1/test/ID.mp4`.
        render: Writes the file to a path.
        root: A folder other than the cache's.
        kind: What the file is.
    """
    folder = Path(root) if root is not None else cache_folder(world)
    path = (folder / name).absolute()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        render(path)
    return MediaRef(kind=kind, uri=str(path), content_hash=file_hash(path))


def require_known(world: str, what: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that the world does not know.

    Raises:
        ConfigError: Lists the known ones.
    """
    if name not in known:
        raise ConfigError(f"{world}: found {what} {name!r}, expected one of {', '.join(known)}")
