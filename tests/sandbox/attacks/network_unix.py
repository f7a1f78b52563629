"""Connects to the sockets of the host's services and of the canary."""

CLASS = 11
KIND = "program"
SEEN = "a connection at the canary's socket, or ESCAPED in its output"

import socket

PATHS = ("/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/dev/log")
for path in ("@CANARY_FOLDER@/socket", *PATHS):
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            print("ESCAPED", path)
    except OSError:
        pass
