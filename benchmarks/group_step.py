"""What a group of answers to one prompt costs: log-probabilities with gradient, and backward.

    python benchmarks/group_step.py --json

Ours in the branch layout and in the plain one, the log-probability pass of TRL's GRPOTrainer and
ms-swift's layout take the same GRPO step on the same model and records, in turns and in changing
order, on one thread. There is no reference: the step is on policy and has no KL.
"""

import sys

from mmalign.testing.steps import main

if __name__ == "__main__":
    sys.exit(main("group_step"))
