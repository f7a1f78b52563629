"""Prints without end while it is called."""

CLASS = 9
KIND = "candidate"
SEEN = "a host without memory"

import os


def add(a, b):
    while True:
        os.write(1, b"x" * 65536)
