"""Reads environment and command line of every process that it sees, and its own."""

CLASS = 5
KIND = "program"
SEEN = "the canary secret in its output"

import os

for process in ["self", str(os.getppid()), *os.listdir("/proc")]:
    for what in ("environ", "cmdline"):
        try:
            with open(f"/proc/{process}/{what}", "rb") as file:
                print(file.read())
        except OSError:
            pass
print(dict(os.environ))
