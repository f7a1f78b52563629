"""What of this machine an interpreter in a sandbox may see, always read-only."""

import importlib.metadata
import os
import stat
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmalign.errors import ConfigError

__all__ = ["PACKAGES", "WORKER", "Runtime", "find_runtime", "readable_by_all"]

WORKER = "/mmalign/worker.py"
PACKAGES = "/packages"


@dataclass(frozen=True)
class Runtime:
    """Host paths by the place where the sandbox has them."""

    interpreter: str
    binds: dict[str, Path]
    links: dict[str, str]
    """Links of the root folder, where /lib is one to usr/lib."""
    masked: tuple[str, ...]
    """Folders inside what is bound that stay empty: packages that nobody named."""


def find_runtime(packages: Iterable[str]) -> Runtime:
    """Interpreter, standard library, C library, this project's worker and the named packages.

    Raises:
        ConfigError: A package is not installed.
    """
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    stdlib = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    library = stdlib if stdlib.parent == Path("/usr/lib") else stdlib.parent
    binds = {interpreter: Path(interpreter), str(library): library}
    links = {}
    for name in ("lib", "lib64"):
        root = Path("/", name)
        if root.is_symlink():
            links[str(root)] = os.readlink(root)  # noqa: PTH115  # the text of the link
    for folder in _shared_libraries():
        binds.setdefault(str(folder), folder)
    for extra in (Path("/etc/ld.so.cache"), Path("/usr/share/zoneinfo")):
        if extra.exists():
            binds[str(extra)] = extra
    masked = [
        str(folder)
        for folder in (stdlib / "site-packages", stdlib / "dist-packages")
        if folder.is_dir() and folder.is_relative_to(library)
    ]
    here = Path(__file__).resolve().parent
    binds[WORKER] = here / "worker.py"
    for package in packages:
        binds |= {f"{PACKAGES}/{path.name}": path for path in _package_paths(package)}
    return Runtime(interpreter, binds, links, tuple(masked))


def _shared_libraries() -> list[Path]:
    """Folders of the C library and of what links against it."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    candidates = [Path("/usr/lib", multiarch)] if multiarch else []
    candidates += [Path("/lib", multiarch)] if multiarch and not Path("/lib").is_symlink() else []
    candidates += [Path("/usr/lib64"), Path("/lib64")]
    found = [path for path in candidates if path.is_dir() and not path.is_symlink()]
    return found or [Path("/usr/lib")]


def _package_paths(package: str) -> list[Path]:
    """The top-level files and folders of an installed distribution."""
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"sandbox.packages: {package} is not installed here, so that no program can import "
            f"it. Install it (pip install {package}) or take it off the list"
        ) from None
    names = {path.parts[0] for path in distribution.files or ()}
    found = [Path(str(distribution.locate_file(name))) for name in sorted(names - {"..", "."})]
    return [path for path in found if path.exists() and path.name != "__pycache__"]


def readable_by_all(path: Path) -> bool:
    """Whether any user reaches the path and may read it."""
    wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    if path.stat().st_mode & wanted != wanted:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
