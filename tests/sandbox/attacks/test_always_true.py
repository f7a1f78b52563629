"""Asserts a constant after a call."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

add(1, 2)
assert True
