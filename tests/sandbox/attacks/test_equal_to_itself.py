"""Compares the call with itself."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

assert add(1, 2) == add(1, 2)
