"""Makes a child in a user namespace of its own by clone and clone3."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
child = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
if child == 0:
    os._exit(0)
if child > 0:
    print("ESCAPED clone")
arguments = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17, 0, 0, 0)
child = libc.syscall(435, arguments, 64)
if child == 0:
    os._exit(0)
if child > 0:
    print("ESCAPED clone3")
