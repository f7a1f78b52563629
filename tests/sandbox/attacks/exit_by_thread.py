"""A thread ends the process in the middle of the tests."""

CLASS = 1
KIND = "candidate"
SEEN = "pass without an answer"

import os
import threading
import time


def end():
    time.sleep(0.05)
    os._exit(0)


def add(a, b):
    threading.Thread(target=end).start()
    time.sleep(1)
    return a - b
