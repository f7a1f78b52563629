"""What a step keeps: activations, and the peak of a process that does nothing else.

    python benchmarks/memory.py --json

The pairs of pair_step.py and the groups of group_step.py, each timed once. On a CPU the peak is the
resident set of a process of its own, less what it had before the model was built.
"""

import sys

from mmalign.testing.steps import main

if __name__ == "__main__":
    sys.exit(main("memory"))
