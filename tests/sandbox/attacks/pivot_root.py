"""Puts another root under its feet and looks at the old one."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import ctypes
import os

os.makedirs("new/old", exist_ok=True)
if ctypes.CDLL(None).syscall(155, b"new", b"new/old") == 0:
    print("ESCAPED", os.listdir("/"))
