"""Mounts a file system of its own and remounts the root to be written."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
MS_REMOUNT, MS_BIND = 32, 4096
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0:
    print("ESCAPED tmpfs")
if libc.mount(b"none", b"/", None, MS_REMOUNT | MS_BIND, None) == 0:
    print("ESCAPED remount")
if libc.mount(b"proc", b"/proc", b"proc", 0, None) == 0:
    print("ESCAPED proc")
if libc.umount2(b"/proc", 2) == 0 or libc.umount2(b"/usr", 2) == 0:
    print("ESCAPED umount")
