"""Hides its asserts behind a main guard that a runner never enters."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

if __name__ == "__main__":
    assert add(1, 2) == 4
