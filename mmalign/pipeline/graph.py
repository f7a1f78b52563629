"""A whole run as a LangGraph graph: its nodes are stages, and it resumes where it stopped."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypedDict, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from rich.console import Console

from mmalign.pipeline.config import RunConfig
from mmalign.pipeline.evaluating import evaluate_arm
from mmalign.pipeline.stages import build_pairs, claim_folder, make_report, train_policy
from mmalign.records import content_id

__all__ = ["RunState", "pipeline_graph", "run_pipeline"]


class RunState(TypedDict, total=False):
    """What the stages tell each other; everything large is in the run folder."""

    num_pairs: int
    before: dict[str, float]
    after: dict[str, float]
    trained: str
    report: str


@dataclass(frozen=True)
class RunContext:
    """What every stage reads."""

    config: RunConfig
    console: Console


def build(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Samples to preference pairs; the run stops here as long as samples wait for a person."""
    funnel = build_pairs(runtime.context.config, runtime.context.console)
    if funnel.num_waiting:
        interrupt({"num_waiting": funnel.num_waiting})
    return {"num_pairs": funnel.num_pairs}


def evaluate_before(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Score the policy as it is."""
    report = evaluate_arm(runtime.context.config, "before", runtime.context.console)
    return {"before": dict(report.metrics)}


def train(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Optimise the policy on the pairs."""
    return {"trained": str(train_policy(runtime.context.config, runtime.context.console))}


def evaluate_after(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Score the policy as trained."""
    report = evaluate_arm(runtime.context.config, "after", runtime.context.console)
    return {"after": dict(report.metrics)}


def report(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Write the page."""
    return {"report": str(make_report(runtime.context.config))}


def pipeline_graph(config: RunConfig) -> StateGraph[RunState, RunContext]:
    """The stages that a recipe asks for, in order."""
    stages: dict[str, Any] = {}
    if config.agent is not None and not (config.trainer and config.trainer.online):
        stages["build"] = build
    if config.evaluation is not None:
        stages["evaluate_before"] = evaluate_before
    if config.trainer is not None:
        stages["train"] = train
        if config.evaluation is not None:
            stages["evaluate_after"] = evaluate_after
    stages["report"] = report
    graph = StateGraph(RunState, RunContext)
    for name, node in stages.items():
        graph.add_node(name, node)
    names = [START, *stages, END]
    for one, other in pairwise(names):
        graph.add_edge(one, other)
    return graph


def run_pipeline(config: RunConfig, console: Console) -> RunState:
    """Run all stages, or those that an earlier call did not finish.

    Raises:
        ConfigError: The output folder holds a run with another recipe.
    """
    claim_folder(config)
    recipe = content_id(config.model_dump(mode="json", exclude={"engine", "budget"}))
    options: RunnableConfig = {"configurable": {"thread_id": recipe}}
    with SqliteSaver.from_conn_string(str(config.output_dir / "stages.sqlite")) as saver:
        graph = pipeline_graph(config).compile(checkpointer=saver)
        begun = graph.get_state(options)
        if begun.created_at is not None and not begun.next:
            console.print(f"{config.output_dir}: all stages are done")
            return cast("RunState", begun.values)
        if begun.next:
            console.print(f"{config.output_dir}: going on with stage {begun.next[0]}")
        context = RunContext(config, console)
        for update in graph.stream(
            None if begun.next else {}, options, context=context, stream_mode="updates"
        ):
            if "__interrupt__" in update:
                console.print(
                    f"{config.output_dir}: stopped before the next stage; when they are answered, "
                    f"run the same command again",
                    soft_wrap=True,
                )
                break
            for stage in update:
                console.print(f"[bold]{stage}[/bold] done")
        return cast("RunState", graph.get_state(options).values)
