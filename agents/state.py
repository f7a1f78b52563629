"""What every agent is given."""

from typing import TypedDict

from mmalign.api import Sample

__all__ = ["SampleInput"]


class SampleInput(TypedDict):
    """What the engine gives."""

    sample: Sample
