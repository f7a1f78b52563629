"""Kills its own process in the middle of a call."""

CLASS = 1
KIND = "candidate"
SEEN = "pass without an answer"

import os
import signal


def add(a, b):
    os.kill(os.getpid(), signal.SIGKILL)
