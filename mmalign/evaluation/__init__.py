"""Scores of models on benchmarks, with intervals."""

from mmalign.evaluation.ambiguity import ambiguity
from mmalign.evaluation.answers import read_predictions
from mmalign.evaluation.bootstrap import Difference, Interval, intervals, paired_bootstrap
from mmalign.evaluation.metrics import (
    Metric,
    Scores,
    exact_match,
    multiple_choice,
    videohallucer,
)
from mmalign.evaluation.predictions import Prediction
from mmalign.evaluation.proof import ArmResult, Proof, arm_result, write_proof
from mmalign.evaluation.runner import EvaluationReport, evaluate
from mmalign.evaluation.scoring import JUDGES, METRICS, require_judge, score, score_judged
from mmalign.evaluation.tempcompass import tempcompass

__all__ = [
    "JUDGES",
    "METRICS",
    "ArmResult",
    "Difference",
    "EvaluationReport",
    "Interval",
    "Metric",
    "Prediction",
    "Proof",
    "Scores",
    "ambiguity",
    "arm_result",
    "evaluate",
    "exact_match",
    "intervals",
    "multiple_choice",
    "paired_bootstrap",
    "read_predictions",
    "require_judge",
    "score",
    "score_judged",
    "tempcompass",
    "videohallucer",
    "write_proof",
]
