"""A small world of coloured shapes: real clips with sound, questions, and an exact oracle."""

from mmalign.datasets.shapes.detection import read_detection
from mmalign.datasets.shapes.oracle import answer, judge
from mmalign.datasets.shapes.reader import (
    SPLITS,
    VERSION,
    clip_of,
    read,
    read_mixture,
    scenes_of,
)

__all__ = [
    "SPLITS",
    "VERSION",
    "answer",
    "clip_of",
    "judge",
    "read",
    "read_detection",
    "read_mixture",
    "scenes_of",
]
