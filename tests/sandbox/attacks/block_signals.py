"""Blocks all signals and hangs in a system call."""

CLASS = 7
KIND = "candidate"
SEEN = "a run that goes on after its time"

import os
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def add(a, b):
    read, write = os.pipe()
    os.read(read, 1)
