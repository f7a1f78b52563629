"""Talks to the machine that hosts the virtual machine."""

CLASS = 11
KIND = "program"
SEEN = "ESCAPED in its output"

import socket

for family in (getattr(socket, "AF_VSOCK", 40), getattr(socket, "AF_ALG", 38)):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(0.2)
            sock.connect((2, 1024))
            print("ESCAPED", family)
    except (OSError, TypeError, ValueError):
        pass
