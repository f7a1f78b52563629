"""A small process that starts, kills and reaps sandboxes, so that the one with models never forks.

It is a process of its own, with one thread, for three reasons: the kernel's death signal follows
the thread that started a child; a process that has opened a GPU must not fork; and started as root
it becomes `nobody` once, so that a sandbox belongs to an ordinary user on every machine.
Standard library only: it is run as a file. It ends, and all its sandboxes with it, when the socket
to its host closes or its parent is gone.

The host sends one packet for each sandbox, `{"id", "argv", "env", "cwd", "names"}` with as many
descriptors as names: stdin, stdout, stderr, report, and others that `argv` names in braces. The
report pipe gets `{"root": pid}` and, when nothing of the sandbox is left, `{"exit_code", "cpu_s"}`.
`{"kill": id}` kills all of one sandbox, `{"end": true}` ends the spawner.
"""

import contextlib
import ctypes
import json
import os
import re
import resource  # noqa: F401  # wait4 loads it at its first call, when `nobody` may not reach it
import selectors
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["main"]

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 0x40000, 0x1000


def main(socket_fd: int, plan: dict[str, Any]) -> None:
    """Serve the host until it is gone.

    Args:
        socket_fd: A sequenced-packet socket to the host.
        plan: `user`, whom to become, or None; `exposed`, paths by the place where that user shall
            reach them, in a mount namespace of this process only; `over`, the folder of these.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = socket.socket(fileno=socket_fd)
    try:
        _libc("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if plan["exposed"]:
            _expose(plan["exposed"], plan["over"])
        if plan["user"] is not None:
            os.setgroups([])
            os.setresgid(*[plan["user"]] * 3)
            os.setresuid(*[plan["user"]] * 3)
    except OSError as error:
        host.send(json.dumps({"error": str(error)}).encode())
        return
    host.send(b'{"ready": true}')
    Spawner(host).serve()


def _expose(exposed: dict[str, str], over: str) -> None:
    _libc("unshare", CLONE_NEWNS)
    _libc("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    _libc("mount", b"none", over.encode(), b"tmpfs", 0, b"mode=755,size=1m")
    for place, source in exposed.items():
        if os.path.isdir(source):  # noqa: PTH112
            os.mkdir(place)  # noqa: PTH102
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
        _libc("mount", source.encode(), place.encode(), None, MS_BIND | MS_REC, None)


def _libc(name: str, *arguments: Any) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


@dataclass
class Child:
    """One sandbox."""

    id: int
    process: subprocess.Popen[bytes]
    report_fd: int
    info_fd: int | None
    process_fd: int
    init: int | None = None
    """Process 1 of its PID namespace; with it everything in there dies."""
    init_fd: int | None = None
    info: bytes = b""
    exit_code: int | None = None
    cpu_s: float = 0.0

    def report(self, **what: Any) -> None:
        """Tell the host, if it still listens."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.report_fd, json.dumps(what).encode() + b"\n")

    def kill(self) -> None:
        """Kill all of it; where there is no PID namespace, the process group."""
        try:
            if self.init_fd is not None:
                signal.pidfd_send_signal(self.init_fd, signal.SIGKILL)
            elif self.exit_code is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Spawner:
    """The loop over the host's packets and the children's ends."""

    def __init__(self, host: socket.socket) -> None:
        self.host = host
        self.parent = os.getppid()
        self.children: dict[int, Child] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(host, selectors.EVENT_READ, self._packet)

    def serve(self) -> None:
        """Until the host closes its socket or is gone without closing."""
        while self.selector.get_map() and os.getppid() == self.parent:
            for key, _ in self.selector.select(timeout=1.0):
                key.data()
        for child in self.children.values():
            child.kill()

    def _packet(self) -> None:
        packet, fds, _, _ = socket.recv_fds(self.host, 1 << 18, 16)
        message = json.loads(packet or b'{"end": true}')
        if "end" in message:
            for child in self.children.values():
                child.kill()
            raise SystemExit
        if "kill" in message:
            if message["kill"] in self.children:
                self.children[message["kill"]].kill()
            return
        self._spawn(message, dict(zip(message["names"], fds, strict=True)))

    def _spawn(self, message: dict[str, Any], fds: dict[str, int]) -> None:
        report_fd = fds.pop("report")
        info_fd, fds["info"] = os.pipe()
        os.set_blocking(info_fd, False)
        stdin, stdout, stderr = (fds.pop(name) for name in ("stdin", "stdout", "stderr"))
        argv = [_filled(argument, fds) for argument in message["argv"]]
        try:
            process = subprocess.Popen(  # noqa: S603  # what the host asks for
                argv,
                env=message["env"],
                cwd=message["cwd"],
                pass_fds=list(fds.values()),
                start_new_session=True,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        except OSError as error:
            os.write(stderr, f"{argv[0]}: {error}\n".encode())
            os.close(report_fd)
            os.close(info_fd)
            return
        finally:
            for fd in (*fds.values(), stdin, stdout, stderr):
                os.close(fd)
        child = Child(message["id"], process, report_fd, info_fd, os.pidfd_open(process.pid))
        self.children[child.id] = child
        child.report(root=process.pid)
        self.selector.register(info_fd, selectors.EVENT_READ, lambda: self._info(child))
        self.selector.register(child.process_fd, selectors.EVENT_READ, lambda: self._exited(child))

    def _info(self, child: Child) -> None:
        """Where bubblewrap says which process is the first of the new namespace."""
        if child.info_fd is None:
            return
        try:
            data = os.read(child.info_fd, 4096)
        except BlockingIOError:
            return
        child.info += data
        found = re.search(rb'"child-pid":\s*(\d+)\D', child.info)
        if found and child.init is None:
            try:
                child.init_fd = os.pidfd_open(int(found[1]))
            except ProcessLookupError:
                pass
            else:
                child.init = int(found[1])
        if not data:  # closed any sooner, bubblewrap would die of a broken pipe
            self._forget(child.info_fd)
            child.info_fd = None

    def _exited(self, child: Child) -> None:
        """The outer process is over; what is left inside is killed and waited for."""
        self._forget(child.process_fd)
        self._info(child)
        _, status, usage = os.wait4(child.process.pid, 0)
        child.cpu_s += usage.ru_utime + usage.ru_stime
        if child.init_fd is None:
            child.kill()
        child.process.returncode = child.exit_code = os.waitstatus_to_exitcode(status)
        if child.init_fd is None:
            self._kill_strays()
            self._gone(child)
            return
        child.kill()
        self.selector.register(child.init_fd, selectors.EVENT_READ, lambda: self._gone(child))

    def _kill_strays(self) -> None:
        """Children that left their group; the kernel gave them to this process."""
        known = {child.process.pid for child in self.children.values()}
        known |= {child.init for child in self.children.values() if child.init is not None}
        with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123
            strays = set(map(int, file.read().split())) - known
        for stray in strays:
            os.kill(stray, signal.SIGKILL)
            os.waitpid(stray, 0)

    def _gone(self, child: Child) -> None:
        if child.init is not None and child.init_fd is not None:
            self._forget(child.init_fd)
            try:
                _, _, usage = os.wait4(child.init, 0)
                child.cpu_s += usage.ru_utime + usage.ru_stime
            except ChildProcessError:
                pass  # its own parent has waited for it
        child.report(exit_code=child.exit_code, cpu_s=child.cpu_s)
        os.close(child.report_fd)
        if child.info_fd is not None:
            self._forget(child.info_fd)
        del self.children[child.id]

    def _forget(self, fd: int) -> None:
        self.selector.unregister(fd)
        os.close(fd)


def _filled(argument: str, fds: dict[str, int]) -> str:
    """`{control}` becomes the number that the descriptor has here."""
    for name, fd in fds.items():
        argument = argument.replace("{" + name + "}", str(fd))
    return argument


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
