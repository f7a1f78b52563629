"""Asserts a tuple, which is always true."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

assert (add(1, 2) == 4, "should be four")
