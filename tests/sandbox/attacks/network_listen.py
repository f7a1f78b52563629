"""Leaves a server behind that waits for somebody on the host."""

CLASS = 11
KIND = "program"
SEEN = "a listening socket on the host"

import os
import socket
import time

try:
    server = socket.socket()
    server.bind(("0.0.0.0", @FREE_PORT@))
    server.listen()
except OSError as error:
    print(error)
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
print("gone")
