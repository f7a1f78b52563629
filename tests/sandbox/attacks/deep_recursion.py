"""Overflows the stack of the interpreter."""

CLASS = 9
KIND = "candidate"
SEEN = "pass without an answer"

import sys

sys.setrecursionlimit(10**9)


def add(a, b):
    return add(a, b) + 1
