"""Takes other users, groups and capabilities."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import ctypes
import os

for take in (os.setuid, os.setgid, os.seteuid, os.setegid):
    if os.getuid() != 0:
        try:
            take(0)
            print("ESCAPED", take.__name__)
        except OSError:
            pass
try:
    os.setgroups([0])
    print("ESCAPED groups")
except OSError:
    pass
with open("/proc/self/status") as file:
    for line in file:
        if line.startswith(("CapEff", "CapPrm", "CapBnd", "CapAmb")) and int(line.split()[1], 16):
            print("ESCAPED", line)
        if line.startswith("NoNewPrivs") and line.split()[1] != "1":
            print("ESCAPED", line)
if ctypes.CDLL(None).prctl(38, 0, 0, 0, 0) == 0:
    print("ESCAPED may gain privileges")
