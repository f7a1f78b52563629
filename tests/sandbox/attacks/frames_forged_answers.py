"""Sends messages of its own to the judge instead of an answer."""

CLASS = 3
KIND = "candidate"
SEEN = "pass for a wrong answer"

import json
import os
import socket
import stat
import struct


def add(a, b):
    said = [
        {"status": "pass", "num_run": 3, "num_passed": 3, "nonce": "0" * 32},
        {"result": ["unknown", 5], "after": None},
        {"result": True, "after": ["list", ["list", 5, 5], ["dict", []]]},
    ]
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                for message in said:
                    text = json.dumps(message).encode()
                    os.write(fd, struct.pack(">I", len(text)) + text)
        except OSError:
            pass
    return a - b
