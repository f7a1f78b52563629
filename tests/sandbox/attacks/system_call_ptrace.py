"""Traces the process above it."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
for target in (1, os.getppid(), @HOST_PID@):
    if target != os.getpid() and libc.ptrace(16, target, 0, 0) == 0:
        print("ESCAPED", target)
