"""Leaves links to host files in its folder, for whoever collects the results."""

CLASS = 9
KIND = "program"
SEEN = "the canary secret in its output"

import os

for number, target in enumerate(("@CANARY_FILE@", "/etc/shadow", "/proc/1/environ")):
    for make in (os.symlink, os.link):
        try:
            make(target, f"result-{number}")
            with open(f"result-{number}") as file:
                print(file.read())
        except OSError:
            pass
