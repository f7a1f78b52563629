"""Training steps of one model on the same records in several layouts, measured side by side."""

from mmalign.testing.steps.bench import BenchName, Plan, run_bench
from mmalign.testing.steps.report import main, table, write_section
from mmalign.testing.steps.world import LlavaShape, QwenShape

__all__ = [
    "BenchName",
    "LlavaShape",
    "Plan",
    "QwenShape",
    "main",
    "run_bench",
    "table",
    "write_section",
]
