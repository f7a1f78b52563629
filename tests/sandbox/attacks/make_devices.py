"""Makes device files of the host's disks and memory."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import os
import stat

for name, numbers in {"disk": (8, 0), "virtual": (254, 0), "memory": (1, 1)}.items():
    try:
        os.mknod(name, stat.S_IFBLK | 0o666, os.makedev(*numbers))
        with open(name, "rb") as file:
            print("ESCAPED", name, file.read(16))
    except OSError:
        pass
