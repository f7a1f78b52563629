"""Files that are there whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmalign.errors import MmalignError, StoreError

__all__ = ["new_file", "write_text"]

_HINTS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your quota on this disk is used up; free some space",
    errno.EFBIG: "the file would be larger than this system allows",
    errno.EROFS: "the folder is on a read-only disk; choose another one",
    errno.EACCES: "the folder may not be written; choose another one or change its permissions",
    errno.EPERM: "the folder may not be written; choose another one or change its permissions",
}


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to; the file takes its place at `path` when the block ends well.

    Whatever stood at `path` stays until then, and stays for good if the block raises.

    Raises:
        StoreError: The file cannot be written; says whether the disk is full or read-only.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o666 & ~_umask())  # mkstemp gives 0600
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        temporary = None
    except MmalignError:  # some are OSErrors: a clip that cannot be read
        raise
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, error.strerror or str(error))
        raise StoreError(f"{path}: cannot be written: {hint}. Nothing was changed") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Put a text at `path`, whole or not at all.

    Raises:
        StoreError: The file cannot be written.
    """
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
