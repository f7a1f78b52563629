"""Looks for programs that run as root for everybody, and makes one."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import os

for folder in ("/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin"):
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name)
        if not os.path.islink(path) and os.stat(path).st_mode & 0o6000:
            if not os.statvfs(path).f_flag & os.ST_NOSUID:
                print("ESCAPED", path)
open("mine", "w").close()
try:
    os.chmod("mine", 0o6755)
    os.chown("mine", 0, 0)
    if os.getuid() != 0:
        print("ESCAPED chown")
except OSError:
    pass
