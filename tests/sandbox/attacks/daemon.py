"""Leaves a daemon: two forks, a session of its own, all descriptors closed."""

CLASS = 8
KIND = "program"
SEEN = "a process that remains, or a file it writes later"

import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        for second in range(120):
            time.sleep(0.5)
            for folder in ("@CANARY_FOLDER@", "/tmp", "/dev/shm"):
                try:
                    open(f"{folder}/@TOKEN@-daemon", "w").close()
                except OSError:
                    pass
    os._exit(0)
print("gone")
