"""Runs Python as the user `nobody`, who may not even reach the interpreter by himself."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmalign.sandbox.runtime import readable_by_all

__all__ = ["run_as_nobody"]

NOBODY = 65534


def run_as_nobody(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 120.0,
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with arguments as an ordinary user; the caller must be root.

    What stands in a home that only root may enter, such as an interpreter, is laid bare in a mount
    namespace of that process alone.

    Args:
        arguments: Of the interpreter.
        env: In addition to PATH, HOME and PYTHONPATH.
        cwd: Where it runs; the root folder by default.
        timeout_s: Seconds until it is killed.
    """
    lines = ["set -e", "mount -t tmpfs none /mnt"]
    for number, path in enumerate(_hidden()):
        shut = next(a for a in reversed(path.parents) if not a.stat().st_mode & 0o001)
        lines += [
            f"mkdir /mnt/{number}",
            f"mount --bind {shlex.quote(str(path))} /mnt/{number}",
            f"mount -t tmpfs -o mode=755 none {shlex.quote(str(shut))}",
            f"mkdir -p {shlex.quote(str(path))}",
            f"mount --bind /mnt/{number} {shlex.quote(str(path))}",
        ]
    command = shlex.join([sys.executable, "-B", *arguments])
    lines += [f"cd {shlex.quote(str(cwd or '/'))}"]
    lines += [f"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {command}"]
    return subprocess.run(  # noqa: S603
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)],  # noqa: S607
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/tmp",  # noqa: S108  # only read
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OMP_NUM_THREADS": "1",
            **(env or {}),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def _hidden() -> list[Path]:
    """Installations that this process uses and that others may not reach, the outermost ones."""
    needed = {Path(os.path.realpath(prefix)) for prefix in (sys.prefix, sys.base_prefix)}
    return [path for path in needed if not readable_by_all(path)]
