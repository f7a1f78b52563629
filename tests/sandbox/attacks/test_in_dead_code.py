"""Hides its asserts where nothing is run."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

if False:
    assert add(1, 2) == 4


def never_called():
    assert add(1, 2) == 4


for number in []:
    assert add(1, number) == 4
while 0:
    assert add(1, 2) == 4
