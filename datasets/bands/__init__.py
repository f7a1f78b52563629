"""A world in which hearing matters: only sound tells which of the shapes play.

One to three shapes stand or drift on the left, in the middle, on the right; each may play the
tone of its kind for some beats of the clip, one more may be heard from off screen. Questions are
of MUSIC-AVQA's nine types. The module `judge` holds the world's exact judge and rewriter.
"""

from mmalign.datasets.bands.reader import (
    SPLITS,
    VERSION,
    clip_of,
    read,
    read_mixture,
    scenes_of,
    vocabulary,
)

__all__ = ["SPLITS", "VERSION", "clip_of", "read", "read_mixture", "scenes_of", "vocabulary"]
