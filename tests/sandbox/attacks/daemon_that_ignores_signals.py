"""Leaves a process that ignores signals and has a new process group."""

CLASS = 8
KIND = "program"
SEEN = "a process that remains"

import os
import signal
import time

for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        for number in signal.valid_signals():
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            time.sleep(1)
print("gone")
