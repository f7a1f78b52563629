"""Pure functions that choose which candidates become a pair, and which pairs are kept."""
