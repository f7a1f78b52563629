"""Leaves files in every folder that other runs or the host could share."""

CLASS = 8
KIND = "program"
SEEN = "a file outside"

import os

for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/", "/usr", "@CANARY_FOLDER@", "/root"):
    try:
        with open(os.path.join(folder, "@TOKEN@"), "w") as file:
            file.write("left")
    except OSError:
        pass
