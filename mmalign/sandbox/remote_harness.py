"""What a remote server runs: it plays judge and candidate, or a suite, from texts that it carries.

The job comes on standard input and only the judge reads it; the candidate, a process of its own,
gets its program over their socket and prints on standard error.
"""

import contextlib
import io
import json
import os
import resource
import socket
import struct
import sys
import types
from typing import Any

SOURCES: dict[str, str] = {}


def main() -> None:
    """Fork the candidate before the job is read, then judge it."""
    for name in ("roles", *(f"roles.{role}" for role in SOURCES)):
        module = sys.modules[name] = types.ModuleType(name)
        module.__package__ = "roles"
        module.__path__ = []
        exec(compile(SOURCES.get(name[6:], ""), f"{name}.py", "exec"), module.__dict__)  # noqa: S102  # texts of mmalign
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        _be_candidate(theirs)
        os._exit(0)
    theirs.close()
    task = json.load(sys.stdin)
    verdict = io.FileIO(os.dup(1), "w")
    if "suite" in task["jobs"]:
        ours.close()
        _limit(task["limits"])
        sys.modules["roles.suite"].main(task["jobs"]["suite"], verdict, None)
        return
    first = json.dumps([task["jobs"]["candidate"], task["limits"]]).encode()
    ours.sendall(struct.pack(">I", len(first)) + first)
    sys.modules["roles.judge"].main(task["jobs"]["judge"], verdict, ours)


def _be_candidate(peer: socket.socket) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    wire: Any = sys.modules["roles.wire"]
    try:
        job, limits = wire.Channel(peer).receive()
    except wire.ChannelClosedError:
        return
    _limit(limits)
    sys.modules["roles.candidate"].main(job, None, peer)


def _limit(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        with contextlib.suppress(OSError, ValueError):  # the server's own limits are lower
            resource.setrlimit(getattr(resource, name), (value, value))


if __name__ == "__main__":
    main()
