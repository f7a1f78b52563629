"""Kills every process that it may."""

CLASS = 8
KIND = "program"
SEEN = "a host process that is gone"

import os
import signal

for number in (signal.SIGTERM, signal.SIGKILL):
    for target in [-1, *range(1, 300), @HOST_PID@]:
        if target != os.getpid():
            try:
                os.kill(target, number)
            except OSError:
                pass
