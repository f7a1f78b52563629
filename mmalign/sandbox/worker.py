"""The first program in a sandbox: it takes one job, closes what is not the role's and plays it.

It runs before there is a job, so that the interpreter is warm when one comes. Standard library
only; see `roles` for what the roles get. It costs as much as it imports, on every run: so no
`json`, `socket` or `typing` here, each of which takes longer than the rest together.
"""

from __future__ import annotations

import _socket
import io
import marshal
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["main"]


def main(control_fd: int, packages: str) -> None:
    """Wait for a job on the control socket, say that it was taken, play its role."""
    _role("program")
    control = _socket.socket(fileno=control_fd)
    control.send(b"ready")
    channels = _channels(control)
    if not channels:
        return  # the host has closed the pool
    with open(channels.pop("job"), "rb") as file:  # noqa: PTH123  # a descriptor
        job = marshal.load(file)  # noqa: S302  # from the host, who has started all this
    control.send(b"taken")
    control.close()
    if packages:
        sys.path.append(packages)
    if "stdin" in channels:
        os.dup2(channels["stdin"], 0)
        os.close(channels.pop("stdin"))
    verdict = io.FileIO(channels["verdict"], "w") if "verdict" in channels else None
    peer = None
    if "peer" in channels:
        import socket

        peer = socket.socket(fileno=channels["peer"])
    role = _role(job["role"])
    for name, value in job.pop("limits").items():
        resource.setrlimit(getattr(resource, name), (value, value))
    role.main(job, verdict, peer)


def _channels(control: _socket.socket) -> dict[str, int]:
    """Descriptors by name; the message holds the names, in the order of the descriptors."""
    message, ancillary, _, _ = control.recvmsg(4096, _socket.CMSG_LEN(4 * 4))
    if not message:
        return {}
    data = ancillary[0][2]
    numbers = [int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, len(data), 4)]
    return dict(zip(message.decode().split(), numbers, strict=True))


def _role(name: str) -> Any:
    """A module of `roles`, which lies beside this file and is on the path for no longer."""
    sys.path[:0] = [os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120  # pathlib is slow to load
    try:
        return __import__(f"roles.{name}", fromlist=["main"])
    finally:
        del sys.path[0]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
