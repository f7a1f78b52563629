"""The host's ends of sandboxed interpreters, and of the spawner that starts them."""

import contextlib
import fcntl
import json
import marshal
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmalign.errors import SandboxError

__all__ = ["Launch", "Spawner", "Worker", "memory_file"]

START_S = 30.0
"""An interpreter that has not begun by then never will; a busy machine needs a second."""


class Launch(NamedTuple):
    """How one sandbox is started; `{control}` and the names of `data` stand for descriptors."""

    argv: list[str]
    env: Mapping[str, str]
    cwd: str
    data: Mapping[str, bytes]
    work_folder: Path | None = None
    """On the host, where the level has no file system of its own; it goes with the worker."""


class Spawner:
    """A process apart, see `spawner.py`; it starts with the first worker."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        """Start it.

        Args:
            plan: Whom it becomes and what it shows him, see `spawner.main`.

        Raises:
            SandboxError: It cannot become the other user or show him the interpreter.
        """
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = str(Path(__file__).with_name("spawner.py"))
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # this interpreter, a file of ours
                [sys.executable, "-sSPB", path, str(theirs.fileno()), json.dumps(plan)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C is for the host alone
                env={},
                cwd="/",
            )
        self._lock = threading.Lock()
        self._num_started = 0
        self._socket.settimeout(START_S)
        answer = json.loads(self._socket.recv(4096) or b'{"error": "it ended at once"}')
        self._socket.settimeout(None)
        if "error" in answer:
            self.close()
            raise SandboxError(f"the process that starts sandboxes could not: {answer['error']}")

    def start(self, launch: Launch) -> "Worker":
        """Begin to start a sandbox; it is ready when its worker says so."""
        with self._lock:
            self._num_started += 1
            number = self._num_started
        fds, names, ours = [], [], []
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for name in ("stdout", "stderr", "report"):
            read, write = os.pipe()
            ours.append(read)
            fds.append(write)
            names.append(name)
        fds += [os.open(os.devnull, os.O_RDONLY), theirs.detach()]
        names += ["stdin", "control"]
        for name, content in launch.data.items():
            fds.append(memory_file(content))
            names.append(name)
        message = {
            "id": number,
            "argv": launch.argv,
            "env": dict(launch.env),
            "cwd": launch.cwd,
            "names": names,
        }
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], fds)
        except OSError:
            pass  # it is gone: the worker's pipes are at their end, which says so
        finally:
            for fd in fds:
                os.close(fd)
        return Worker(self, number, control, tuple(ours), launch.work_folder)

    def kill(self, number: int) -> None:
        """Kill all of a sandbox; one that is gone already is no error."""
        with contextlib.suppress(OSError):
            self._socket.send(json.dumps({"kill": number}).encode())

    def is_alive(self) -> bool:
        """Whether it still serves."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it and all of its sandboxes."""
        with contextlib.suppress(OSError):  # said aloud: a forked child may hold the socket too
            self._socket.send(b'{"end": true}')
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def forget(self) -> None:
        """In a forked child: the process is the parent's; close this copy of the socket."""
        self._socket.close()
        self._process.returncode = 0  # so that nobody here waits for it


class Worker:
    """One warm interpreter in a sandbox; it does one job."""

    def __init__(
        self,
        spawner: Spawner,
        number: int,
        control: socket.socket,
        pipes: tuple[int, ...],
        work_folder: Path | None,
    ) -> None:
        self._spawner = spawner
        self._number = number
        self._control = control
        self._work_folder = work_folder
        self.stdout_fd, self.stderr_fd, self.report_fd = pipes
        self.root: int | None = None
        """The process from which all of it descends, once it is ready."""

    def wait_ready(self) -> bool:
        """Whether the interpreter runs and waits for its job."""
        if not self._heard(b"ready"):
            return False
        said, _, more = os.read(self.report_fd, 4096).partition(b"\n")
        if more:
            return False  # it has ended meanwhile
        self.root = json.loads(said)["root"]
        return True

    def give(self, job: Mapping[str, Any], channels: Mapping[str, int]) -> bool:
        """Hand over its job and the descriptors of its role; whether it was taken."""
        file = memory_file(marshal.dumps(dict(job)))  # the worker reads it without an import
        try:
            names = " ".join(["job", *channels]).encode()
            socket.send_fds(self._control, [names], [file, *channels.values()])
        except OSError:
            return False
        finally:
            os.close(file)
        return self._heard(b"taken")

    def _heard(self, word: bytes) -> bool:
        self._control.settimeout(START_S)
        try:
            return self._control.recv(64) == word
        except OSError:
            return False

    def kill(self) -> None:
        """Kill all of its processes."""
        self._spawner.kill(self._number)

    def complaint(self) -> str:
        """What a sandbox that did not start has written to standard error."""
        deadline, text = time.monotonic() + 2.0, b""
        while len(text) < 4096 and time.monotonic() < deadline:
            if not select.select([self.stderr_fd], [], [], deadline - time.monotonic())[0]:
                break
            data = os.read(self.stderr_fd, 4096)
            if not data:
                break
            text += data
        return text.decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Close what this process holds of it; `kill` first."""
        self._control.close()
        for fd in (self.stdout_fd, self.stderr_fd, self.report_fd):
            os.close(fd)
        if self._work_folder is not None:
            shutil.rmtree(self._work_folder, ignore_errors=True)


def memory_file(content: bytes) -> int:
    """A descriptor at the start of a file that nobody can change."""
    fd = os.memfd_create("mmalign", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
