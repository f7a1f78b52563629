"""Raises SystemExit out of the first call."""

CLASS = 1
KIND = "candidate"
SEEN = "pass without an answer"

def add(a, b):
    raise SystemExit(0)
