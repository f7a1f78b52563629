"""A world of small functions: instructions in words, programs, hidden tests.

Every function is three steps, as "keep the even numbers, square each, sum them"; a split has
combinations of steps that no other has. The base model has learnt from authors who are careless
in some steps, so it errs in these whatever they are combined with; its tests err too.
"""

from mmalign.datasets.programs.easy import read_easy
from mmalign.datasets.programs.reader import SPLITS, read, read_lessons

__all__ = ["SPLITS", "read", "read_easy", "read_lessons"]
