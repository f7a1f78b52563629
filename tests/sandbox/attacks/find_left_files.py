"""Looks for what an earlier run has left in the shared folders."""

CLASS = 8
KIND = "program"
SEEN = "ESCAPED in its output"

import os

for folder in (".", "/tmp", "/var/tmp", "/dev/shm"):
    try:
        for name in os.listdir(folder):
            if "@TOKEN@" in name:
                print("ESCAPED", folder, name)
    except OSError:
        pass
