"""Stops the clocks and sleeps of its process."""

CLASS = 4
KIND = "candidate"
SEEN = "pass for a wrong answer"

import time

time.time = time.monotonic = time.perf_counter = lambda: 0.0
time.sleep = lambda seconds: None


def add(a, b):
    return a - b
