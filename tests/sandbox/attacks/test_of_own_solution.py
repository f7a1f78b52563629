"""Defines the function itself and tests that."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

def add(a, b):
    return a + b


assert add(1, 2) == 3
