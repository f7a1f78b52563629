"""The first program in a sandbox: it takes one job, closes what is not the role's and plays it.

It runs before there is a job, so that the interpreter is warm when one comes. Standard library
only; see `roles` for what the roles get.
"""

import importlib
import io
import json
import os
import resource
import socket
import sys
from typing import Any

__all__ = ["main"]


def main(control_fd: int, packages: str) -> None:
    """Wait for a job on the control socket, say that it was taken, play its role."""
    sys.path[:0] = [os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120  # pathlib is slow to load
    roles = {name: importlib.import_module(f"roles.{name}") for name in ("program",)}
    del sys.path[0]
    if packages:
        sys.path.append(packages)
    with socket.socket(fileno=control_fd) as control:
        control.send(b"ready")
        message, fds, _, _ = socket.recv_fds(control, 4096, 4)
        if not message:
            return  # the host has closed the pool
        channels = dict(zip(json.loads(message), fds, strict=True))
        with open(channels.pop("job"), "rb") as file:  # noqa: PTH123  # a descriptor
            job = json.load(file)
        control.send(b"taken")
    if "stdin" in channels:
        os.dup2(channels["stdin"], 0)
        os.close(channels.pop("stdin"))
    verdict = io.FileIO(channels["verdict"], "w") if "verdict" in channels else None
    peer = socket.socket(fileno=channels["peer"]) if "peer" in channels else None
    role = roles.get(job["role"]) or _load(job["role"])
    _limit(job.pop("limits"))
    role.main(job, verdict, peer)


def _load(role: str) -> Any:
    """A role whose imports are too slow for workers that may not need them."""
    sys.path[:0] = [os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120
    try:
        return importlib.import_module(f"roles.{role}")
    finally:
        del sys.path[0]


def _limit(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
