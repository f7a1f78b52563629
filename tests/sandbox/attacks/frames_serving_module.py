"""Replaces the functions that send its answers by ones that say pass."""

CLASS = 3
KIND = "candidate"
SEEN = "pass for a wrong answer"

import sys

for name, module in list(sys.modules.items()):
    if "wire" in name or "candidate" in name or "judge" in name:
        for attribute in ("encode", "decode", "main", "judge"):
            if hasattr(module, attribute):
                setattr(module, attribute, lambda *args: {"status": "pass", "result": True})


def add(a, b):
    return a - b
