"""Opens files for ever."""

CLASS = 9
KIND = "program"
SEEN = "ESCAPED in its output"

import os

opened = []
try:
    for _ in range(5000):
        opened.append(os.open("/dev/null", os.O_RDONLY))
    print("ESCAPED", len(opened))
except OSError:
    pass
