"""Asks the kernel for interfaces and routes and brings one up."""

CLASS = 11
KIND = "program"
SEEN = "ESCAPED in its output"

import socket
import struct

try:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, 0))
        sock.send(struct.pack("=IHHIIBxHiII", 32, 16, 5, 1, 0, 0, 0, 1, 1, 1))
        print(sock.recv(4096)[16:20])
except OSError:
    pass
try:
    if [name for _, name in socket.if_nameindex() if name != "lo"]:
        print("ESCAPED", socket.if_nameindex())
except OSError:
    pass
