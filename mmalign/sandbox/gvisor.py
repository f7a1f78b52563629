"""The level `gvisor`: a kernel of its own, by gVisor's `runsc`, without a network.

A worker is a container from an OCI bundle that is written for it; its control socket is handed
through with --pass-fd. What is bound and limited is what `bubblewrap.py` binds and limits.
"""

import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmalign.sandbox.bubblewrap import ENVIRONMENT, NOBODY, PASSWD, PYTHON_FLAGS, WORK
from mmalign.sandbox.process import Launch
from mmalign.sandbox.runtime import PACKAGES, WORKER, Runtime

__all__ = ["gvisor_launch", "oci_spec"]

CONTROL_FD = 3
"""The control socket's number inside."""


def gvisor_launch(
    executable: Path, runtime: Runtime, places: Mapping[Path, str], work_bytes: int
) -> Launch:
    """Start a worker in a gVisor container.

    Args:
        executable: runsc.
        runtime: What the interpreter needs.
        places: Where the user who starts it reaches a host path, if not by its own name.
        work_bytes: Size of the work folder.
    """
    bundle = Path(tempfile.mkdtemp(prefix="mmalign-gvisor-"))
    for folder in ("rootfs", "state"):
        (bundle / folder).mkdir()
    (bundle / "passwd").write_bytes(PASSWD)
    spec = oci_spec(runtime, places, bundle / "passwd", work_bytes)
    (bundle / "config.json").write_text(json.dumps(spec), encoding="utf-8")
    argv = [
        places.get(executable, str(executable)),
        *(() if os.geteuid() == 0 else ("--rootless",)),
        *("--network=none", "--ignore-cgroups"),
        f"--root={bundle / 'state'}",
        "run",
        *("--pass-fd", "{control}:" + str(CONTROL_FD)),
        f"--bundle={bundle}",
        f"mmalign-{secrets.token_hex(8)}",
    ]
    return Launch(argv, {"PATH": "/usr/bin:/bin"}, "/", {}, bundle)


def oci_spec(
    runtime: Runtime, places: Mapping[Path, str], passwd: Path, work_bytes: int
) -> dict[str, Any]:
    """The container as the OCI runtime specification 1.0 writes it down."""
    binds = {inside: places.get(path, str(path)) for inside, path in runtime.binds.items()}
    binds["/etc/passwd"] = str(passwd)
    binds |= {
        inside: f"/usr{inside}" if Path(f"/usr{inside}").exists() else inside
        for inside in runtime.links
    }
    mounts: list[dict[str, Any]] = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    mounts += [
        {"destination": inside, "type": "bind", "source": source, "options": ["rbind", "ro"]}
        for inside, source in binds.items()
    ]
    mounts += [_tmpfs(folder, 4096, "ro") for folder in runtime.masked]
    mounts += [_tmpfs(folder, work_bytes, "mode=1777") for folder in (WORK, "/tmp", "/dev/shm")]  # noqa: S108
    namespaces = ("pid", "ipc", "uts", "mount", "network")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": NOBODY, "gid": NOBODY},
            "args": [runtime.interpreter, *PYTHON_FLAGS, WORKER, str(CONTROL_FD), PACKAGES],
            "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
            "cwd": WORK,
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "sandbox",
        "mounts": mounts,
        "linux": {"namespaces": [{"type": name} for name in namespaces]},
    }


def _tmpfs(folder: str, size: int, option: str) -> dict[str, Any]:
    return {
        "destination": folder,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "nodev", f"size={size}", option],
    }
