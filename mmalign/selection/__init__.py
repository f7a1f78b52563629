"""Pure functions that choose which candidates become a pair, and which pairs are kept."""

from mmalign.selection.table import SELECTION_RULES

__all__ = ["SELECTION_RULES"]
