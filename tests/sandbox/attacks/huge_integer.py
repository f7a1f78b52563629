"""Prints an integer of a hundred million digits."""

CLASS = 9
KIND = "program"
SEEN = "a host that waits for ever"

import sys

sys.set_int_max_str_digits(0)
print(10 ** (10**8))
