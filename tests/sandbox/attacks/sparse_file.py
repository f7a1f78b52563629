"""Makes a file that says it is a terabyte."""

CLASS = 9
KIND = "program"
SEEN = "ESCAPED in its output"

import os
import signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with open("sparse", "wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    print("ESCAPED", os.path.getsize("sparse"))
except OSError:
    print("no")
