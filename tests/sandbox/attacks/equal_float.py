"""Gives back a float that is close to everything."""

CLASS = 2
KIND = "candidate"
SEEN = "pass for a wrong answer"

class Float(float):
    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0.0

    __rsub__ = __sub__
    __hash__ = float.__hash__


def add(a, b):
    return Float("nan")
