"""Gives back an object whose class lies about what it is."""

CLASS = 2
KIND = "candidate"
SEEN = "pass for a wrong answer"

class Meta(type):
    __mro__ = property(lambda cls: (int, object))

    def __instancecheck__(cls, instance):
        return True


class Liar(metaclass=Meta):
    __class__ = int

    def __int__(self):
        return 5

    def __eq__(self, other):
        return True


def add(a, b):
    return Liar()
