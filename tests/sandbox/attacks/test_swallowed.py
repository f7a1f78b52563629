"""Catches the failure of its own assert."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

try:
    assert add(1, 2) == 4
except Exception:
    pass
