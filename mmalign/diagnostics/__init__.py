"""Pure functions that tell what a loss or a data set is doing."""

from mmalign.diagnostics.table import DIAGNOSTICS

__all__ = ["DIAGNOSTICS"]
