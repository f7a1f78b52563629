"""Is no Python."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

Sure! Here are some tests:
assert add(1, 2) == 3
