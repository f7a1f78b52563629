"""The diagnostics by name; adding one is a function and a line here."""

from collections.abc import Mapping
from types import MappingProxyType

from mmalign.config import Method

__all__ = ["DIAGNOSTICS"]

DIAGNOSTICS: Mapping[str, Method] = MappingProxyType({
    # in the order of the alphabet
})  # fmt: skip
