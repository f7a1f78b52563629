"""Ends with exit code 0 before any test is run."""

CLASS = 1
KIND = "candidate"
SEEN = "pass without an answer"

import sys

sys.exit(0)
