"""Takes memory in many processes, each within the limit of one."""

CLASS = 9
KIND = "program"
SEEN = "a host without memory"

import os
import time

for _ in range(64):
    try:
        if os.fork() == 0:
            block = bytearray(b"x") * (1 << 25)
            time.sleep(30)
    except OSError:
        break
print("gone")
