"""Fills the pipe of its output and only then goes to work."""

CLASS = 9
KIND = "program"
SEEN = "a run that hangs"

import sys

sys.stdout.write("x" * (1 << 18))
sys.stdout.flush()
print("gone")
