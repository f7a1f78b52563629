"""Swallows every exception that could end its endless loop."""

CLASS = 7
KIND = "candidate"
SEEN = "a run that goes on after its time"

def add(a, b):
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue
