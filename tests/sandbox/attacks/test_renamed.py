"""Gives the name of the function to something else."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

add = lambda a, b: a + b
assert add(1, 2) == 3
