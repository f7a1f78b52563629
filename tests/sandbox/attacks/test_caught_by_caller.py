"""Calls its test function where the failure is caught."""

CLASS = 13
KIND = "test"
SEEN = "accepted as a test"

def run():
    assert add(1, 2) == 4


try:
    run()
except BaseException:
    print("fine")
