"""Takes away alarms and ignores every signal that can be ignored, then waits."""

CLASS = 7
KIND = "candidate"
SEEN = "a run that goes on after its time"

import signal
import time

signal.setitimer(signal.ITIMER_REAL, 0)
signal.setitimer(signal.ITIMER_VIRTUAL, 0)
signal.alarm(0)
for number in signal.valid_signals():
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass


def add(a, b):
    while True:
        time.sleep(3600)
