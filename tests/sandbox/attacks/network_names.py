"""Asks name servers, whose questions can carry a secret out."""

CLASS = 11
KIND = "program"
SEEN = "ESCAPED in its output"

import socket

for name in ("secret.example.com", "metadata.google.internal", "localhost.localdomain"):
    try:
        print("ESCAPED", socket.getaddrinfo(name, 80))
    except OSError:
        pass
