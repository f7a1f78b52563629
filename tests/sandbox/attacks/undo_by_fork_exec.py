"""Starts a program by the C function below subprocess."""

CLASS = 10
KIND = "program"
SEEN = "the canary secret in its output"

import subprocess

for command in (["/bin/cat", "@CANARY_FILE@"], ["/bin/sh", "-c", "cat @CANARY_FILE@"]):
    try:
        print(subprocess.run(command, capture_output=True, check=False).stdout)
    except OSError as error:
        print(error)
