"""Connects to a socket that has a name but no file."""

CLASS = 11
KIND = "program"
SEEN = "a connection at the canary's socket"

import socket

try:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0@TOKEN@")
        print("ESCAPED")
except OSError:
    pass
with open("/proc/net/unix") as file:
    if "@TOKEN@" in file.read():
        print("ESCAPED sees the host's sockets")
