"""Never calls what it is to test."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

expected = 3
assert expected == 3
assert callable(add)
