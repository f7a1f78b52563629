"""A daemon of the candidate's holds the connection open after the call has failed."""

CLASS = 8
KIND = "candidate"
SEEN = "a process that remains, or a judge that waits for ever"

import os
import time


def add(a, b):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
    os._exit(0)
