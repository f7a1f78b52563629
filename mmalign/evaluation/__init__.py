"""Scores of models on benchmarks, with intervals."""

from mmalign.evaluation.ambiguity import ambiguity
from mmalign.evaluation.answers import read_lines, read_predictions
from mmalign.evaluation.bootstrap import Difference, Interval, intervals, paired_bootstrap
from mmalign.evaluation.code import CodeProblem, Verdict, problem_of, program_of, read_verdicts
from mmalign.evaluation.metrics import (
    Metric,
    Scores,
    exact_match,
    multiple_choice,
    videohallucer,
)
from mmalign.evaluation.pass_at_k import functional_correctness, pass_at_k
from mmalign.evaluation.predictions import Prediction
from mmalign.evaluation.proof import ArmResult, Proof, arm_result, write_proof
from mmalign.evaluation.runner import EvaluationReport, evaluate
from mmalign.evaluation.scoring import (
    JUDGES,
    METRICS,
    ROLLS_OUT,
    RUNS,
    require_draws,
    require_judge,
    score,
    score_judged,
)
from mmalign.evaluation.tempcompass import tempcompass
from mmalign.evaluation.tool_use import RolledOut, tool_costs, tool_use

__all__ = [
    "JUDGES",
    "METRICS",
    "ROLLS_OUT",
    "RUNS",
    "ArmResult",
    "CodeProblem",
    "Difference",
    "EvaluationReport",
    "Interval",
    "Metric",
    "Prediction",
    "Proof",
    "RolledOut",
    "Scores",
    "Verdict",
    "ambiguity",
    "arm_result",
    "evaluate",
    "exact_match",
    "functional_correctness",
    "intervals",
    "multiple_choice",
    "paired_bootstrap",
    "pass_at_k",
    "problem_of",
    "program_of",
    "read_lines",
    "read_predictions",
    "read_verdicts",
    "require_draws",
    "require_judge",
    "score",
    "score_judged",
    "tempcompass",
    "tool_costs",
    "tool_use",
    "videohallucer",
    "write_proof",
]
