"""Takes all of the processor: highest priority, real-time scheduling."""

CLASS = 8
KIND = "program"
SEEN = "ESCAPED in its output"

import os

try:
    os.nice(-20)
    print("ESCAPED nice")
except OSError:
    pass
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
    print("ESCAPED real time")
except OSError:
    pass
