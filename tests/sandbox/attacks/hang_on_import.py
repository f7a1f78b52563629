"""Never ends being loaded."""

CLASS = 7
KIND = "candidate"
SEEN = "a run that goes on after its time"

import time

while True:
    try:
        time.sleep(1)
    except BaseException:
        pass
