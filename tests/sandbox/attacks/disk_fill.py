"""Fills every disk that it can write to."""

CLASS = 9
KIND = "program"
SEEN = "ESCAPED in its output"

import os

total = 0
for folder in (".", "/tmp", "/dev/shm", "/var/tmp", "@CANARY_FOLDER@"):
    for number in range(60):
        try:
            with open(os.path.join(folder, f"@TOKEN@-{number}"), "wb") as file:
                total += file.write(b"x" * (1 << 23))
        except OSError:
            pass
if total > 1 << 28:
    print("ESCAPED", total)
