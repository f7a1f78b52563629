"""The whole run: recipe, stages, and the graph that joins them."""

from mmalign.pipeline.config import EvaluationSection, Plugin, RunConfig, call_reader, read_recipe
from mmalign.pipeline.graph import RunState, pipeline_graph, run_pipeline

__all__ = [
    "EvaluationSection",
    "Plugin",
    "RunConfig",
    "RunState",
    "call_reader",
    "pipeline_graph",
    "read_recipe",
    "run_pipeline",
]
