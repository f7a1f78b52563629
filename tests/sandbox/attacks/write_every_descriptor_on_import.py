"""Writes a verdict to every descriptor before the first call and ends."""

CLASS = 6
KIND = "candidate"
SEEN = "pass without an answer"

import os

LINE = b'{"nonce": "", "status": "pass", "message": "", "num_run": 3, "num_passed": 3}\n'
for fd in range(1024):
    try:
        os.write(fd, LINE)
    except OSError:
        pass
os._exit(0)
