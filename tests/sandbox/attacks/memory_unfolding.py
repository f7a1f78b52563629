"""Gives back a small value that unfolds into one of a billion parts."""

CLASS = 9
KIND = "candidate"
SEEN = "pass for a wrong answer"

def add(a, b):
    value = [0]
    for _ in range(30):
        value = [value, value]
    return value
