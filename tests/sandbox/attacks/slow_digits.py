"""Hangs inside one C call that no signal handler can interrupt."""

CLASS = 7
KIND = "candidate"
SEEN = "a run that goes on after its time"

def add(a, b):
    return (10 ** (10**8)) % (10**7 + 19)
