"""Prints what it should assert."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

print(add(1, 2) == 3, "passed")
