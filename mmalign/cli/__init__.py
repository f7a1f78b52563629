"""The command line: mmalign VERB; 0 ok, 1 failed work, 2 wrong use."""

from mmalign.cli.app import main

__all__ = ["main"]
