"""Connects to the canary server and to the world."""

CLASS = 11
KIND = "program"
SEEN = "a connection at the canary server, or ESCAPED in its output"

import socket

for host, port in (("127.0.0.1", @PORT@), ("::1", @PORT@), ("1.1.1.1", 443), ("10.0.0.1", 80)):
    try:
        with socket.create_connection((host, port), timeout=0.2):
            print("ESCAPED", host)
    except OSError:
        pass
