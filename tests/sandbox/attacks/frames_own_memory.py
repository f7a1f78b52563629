"""Searches the memory of its process for the text of the tests and the nonce."""

CLASS = 3
KIND = "candidate"
SEEN = "pass, or text of the tests in its output"

import re


def add(a, b):
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            where, mode = line.split()[:2]
            start, end = (int(part, 16) for part in where.split("-"))
            if mode.startswith("rw") and end - start < 1 << 26:
                try:
                    memory.seek(start)
                    if re.search(b"assert [a]dd", memory.read(end - start)):
                        print("ESCAPED the tests are in this process")
                except OSError:
                    pass
    return a - b
