"""Starts threads for ever."""

CLASS = 8
KIND = "program"
SEEN = "ESCAPED in its output"

import threading
import time

number = 0
try:
    while number < 5000:
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        number += 1
    print("ESCAPED", number)
except RuntimeError:
    print("no more than", number)
