"""Makes raw and packet sockets, and pings."""

CLASS = 11
KIND = "program"
SEEN = "ESCAPED in its output"

import socket

KINDS = (
    (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    (socket.AF_PACKET, socket.SOCK_RAW, 0),
    (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
)
for kind in KINDS:
    try:
        with socket.socket(*kind) as sock:
            sock.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", ("127.0.0.1", 0))
            print("ESCAPED", kind)
    except OSError:
        pass
