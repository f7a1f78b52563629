"""Types a command into the terminal that started it."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import fcntl
import os
import termios

for fd in (0, 1, 2):
    try:
        fcntl.ioctl(fd, termios.TIOCSTI, b"\n")
        print("ESCAPED", fd)
    except OSError:
        pass
try:
    os.open("/dev/tty", os.O_RDWR)
    print("ESCAPED tty")
except OSError:
    pass
