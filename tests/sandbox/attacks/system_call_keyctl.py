"""Reads and adds keys of the kernel's key rings."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"
NEEDS = "seccomp"

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(250, 0, -3, 1) > 0:
    print("ESCAPED keyctl")
if libc.syscall(248, b"user", b"@TOKEN@", b"left", 4, -5) > 0:
    print("ESCAPED add_key")
