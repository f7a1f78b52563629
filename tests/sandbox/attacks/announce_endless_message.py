"""Announces an answer of four gigabytes and sends it byte by byte."""

CLASS = 6
KIND = "candidate"
SEEN = "pass, or a judge that waits for ever"

import os
import stat
import time


def add(a, b):
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, b"\xff\xff\xff\xff")
                while True:
                    os.write(fd, b"[")
                    time.sleep(0.001)
        except OSError:
            pass
    return a - b
