"""Enters the namespaces of another process."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
for process in ("1", str(os.getppid()), "@HOST_PID@"):
    for name in ("user", "mnt", "net", "pid", "ipc"):
        try:
            fd = os.open(f"/proc/{process}/ns/{name}", os.O_RDONLY)
        except OSError:
            continue
        if libc.setns(fd, 0) == 0:
            print("ESCAPED", process, name)
