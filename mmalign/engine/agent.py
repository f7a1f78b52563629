"""What the engine asks of a compiled LangGraph graph, and one sample's walk through it."""

import re
from collections.abc import Sequence
from typing import Any, get_type_hints

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph

from mmalign.config import Config
from mmalign.engine.context import Context
from mmalign.errors import PluginError
from mmalign.records import DroppedSample, PreferencePair, Sample

__all__ = [
    "AgentGraph",
    "AgentRecord",
    "checked_records",
    "config_class",
    "context_class",
    "failed_node",
    "walk",
    "walk_settings",
]

AgentGraph = CompiledStateGraph[Any, Any, Any, Any]
AgentRecord = PreferencePair | DroppedSample

DECLARATION = "`interrupts: ClassVar[bool] = True` in the class of its context"
_NODE_NOTE = re.compile(r"During task with name '(.*)' and id '")


def context_class(graph: AgentGraph) -> type[Context]:
    """The class of the context that the graph's nodes read.

    Raises:
        PluginError: It is none of ours, the graph's state has no `records`, or the graph stops
            before or after a node without declaring it.
    """
    found = graph.builder.context_schema
    if not (isinstance(found, type) and issubclass(found, Context)):
        raise PluginError(
            f"the agent's graph has the context {getattr(found, '__name__', found)}; give its "
            f"StateGraph a context_schema that derives from Context"
        )
    missing = [key for key in ("sample", "records") if key not in graph.builder.channels]
    if missing:
        raise PluginError(
            f"the agent's state has no {' and no '.join(missing)}; the engine puts a Sample into "
            f"`sample` and takes a list of pairs and dropped samples from `records`"
        )
    if (graph.interrupt_before_nodes or graph.interrupt_after_nodes) and not found.interrupts:
        raise PluginError(
            f"the agent's graph is compiled with interrupt_before or interrupt_after, but does not "
            f"declare that it waits for people: write {DECLARATION}"
        )
    return found


def config_class(graph: AgentGraph) -> type[Config]:
    """The class of the agent's settings: the type of its context's field `config`."""
    found = get_type_hints(context_class(graph))["config"]
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise PluginError(f"the agent's context has config: {found}; it must derive from Config")
    return found


async def walk(
    graph: AgentGraph, sample: Sample, context: Context, *, recursion_limit: int = 50
) -> tuple[AgentRecord, ...]:
    """The records that a graph makes of one sample; never none.

    Trainers that build pairs from the current batch call it too.

    Returns:
        What the graph wrote, or one dropped sample with the reason `no_record`.

    Raises:
        TypeError: The graph wrote something else, or a record of another sample, or it asked a
            person, which takes a run that can wait.
        GraphRecursionError: It took more steps than `recursion_limit`.
        Exception: Whatever a node raises, with a note that names the node.
    """
    config = walk_settings(sample, recursion_limit)
    if graph.checkpointer:
        config["configurable"] = {"thread_id": sample.id}
    written = await graph.ainvoke(
        {"sample": sample}, config, context=context, output_keys="records"
    )
    if isinstance(written, dict):  # `records` is a list; LangGraph puts an interrupt in its place
        raise TypeError(
            "the graph called interrupt(), which only `mmalign build` can wait for, and only where "
            f"the agent declares it: write {DECLARATION}"
        )
    return checked_records(sample, written)


def walk_settings(sample: Sample, recursion_limit: int) -> RunnableConfig:
    """What LangGraph is told about one sample's walk."""
    return {"recursion_limit": recursion_limit, "metadata": {"sample_id": sample.id}}


def checked_records(
    sample: Sample, written: Sequence[AgentRecord] | None
) -> tuple[AgentRecord, ...]:
    """What a graph left in `records`; one dropped sample where it left nothing.

    Raises:
        TypeError: It is no record, or one of another sample.
    """
    records = tuple(written or ())
    for record in records:
        if not isinstance(record, PreferencePair | DroppedSample):
            raise TypeError(
                f"`records` holds a {type(record).__name__}; an agent writes PreferencePair and "
                f"DroppedSample"
            )
        if record.sample_id != sample.id:
            raise TypeError(
                f"`records` holds a record of sample {record.sample_id!r}; a graph writes only "
                f"about the sample that it was given"
            )
    return records or (
        DroppedSample(
            sample_id=sample.id,
            reason="no_record",
            node="",
            message="the graph ended without a pair or a reason; let it write a DroppedSample",
        ),
    )


def failed_node(error: BaseException) -> str:
    """The innermost node that raised; empty where LangGraph does not say."""
    for note in getattr(error, "__notes__", ()):
        if match := _NODE_NOTE.search(note):
            return match.group(1)
    return ""
