"""Runs a shell by the modules below os, which guards forget."""

CLASS = 10
KIND = "program"
SEEN = "the canary secret in its output"

import posix

posix.system("cat @CANARY_FILE@; cat /etc/shadow; touch @CANARY_FOLDER@/@TOKEN@")
