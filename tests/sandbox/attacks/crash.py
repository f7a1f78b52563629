"""Crashes the interpreter itself."""

CLASS = 9
KIND = "candidate"
SEEN = "pass without an answer"

import ctypes


def add(a, b):
    ctypes.string_at(0)
