"""Tools that agents and policies call."""
