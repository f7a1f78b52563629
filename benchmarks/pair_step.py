"""What one preference pair costs: forward, reference and backward in each layout.

    python benchmarks/pair_step.py --json

Ours in the branch layout and in the plain one, TRL's DPOTrainer and ms-swift's layout take the
same DPO step on the same model and records, in turns and in changing order, on one thread.
"""

import sys

from mmalign.testing.steps import main

if __name__ == "__main__":
    sys.exit(main("pair_step"))
