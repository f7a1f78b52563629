"""Makes namespaces of its own, where it would be root again."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
NAMESPACES = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000}
for name, flag in NAMESPACES.items():
    if libc.unshare(flag) == 0:
        print("ESCAPED", name)
