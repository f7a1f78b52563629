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
    peer = _socket.socket(fileno=channels["peer"]) if "peer" in channels else None
    role = _loaded(job.pop("modules"))
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


def _loaded(modules: dict[str, bytes]) -> Any:
    """The last of the package's modules, which came compiled and in the order of their imports."""
    package = type(sys)("roles")
    package.__path__ = []
    sys.modules["roles"] = package
    for name, code in modules.items():
        module = type(sys)(f"roles.{name}")
        module.__package__ = "roles"
        sys.modules[module.__name__] = module
        exec(marshal.loads(code), module.__dict__)  # noqa: S102, S302  # from the host
    return module


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
