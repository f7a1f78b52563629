"""Factories for LangGraph's own tools: they build graph and Context from a recipe.

The environment variable MMALIGN_CONFIG names the recipe, by default configs/quickstart.yaml. Their
graphs hold JSON values only, so that Studio can show and edit them; models are loaded when a graph
first runs, not when it is opened.
"""

import asyncio
import itertools
import os
from functools import cache
from pathlib import Path
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from rich.console import Console
from typing_extensions import TypedDict  # typing's has no JSON Schema before Python 3.12

from mmalign.engine import AgentGraph, context_class
from mmalign.errors import ConfigError
from mmalign.models.load import load_model
from mmalign.models.protocol import ChatModel
from mmalign.pipeline.agents import agent_settings, load_agent
from mmalign.pipeline.config import RunConfig, read_recipe
from mmalign.pipeline.graph import RunContext, pipeline_graph
from mmalign.pipeline.stages import claim_folder, read_samples
from mmalign.records import Sample
from mmalign.sandbox import Sandbox

__all__ = ["AgentInput", "AgentState", "StagesState", "agent_graph", "run_graph"]

_DEFAULT = "configs/quickstart.yaml"


class AgentInput(TypedDict, total=False):
    """One of the two; a sample goes before a number."""

    number: int
    """Place of a sample in the recipe's data set, from 0."""
    sample: dict[str, Any]
    """A `Sample` as JSON."""


class AgentState(AgentInput, total=False):
    """What the nodes write."""

    records: list[dict[str, Any]]
    """Pairs and dropped samples as JSON."""


class StagesState(TypedDict, total=False):
    """The input is empty."""

    result: dict[str, Any]
    """What the stages told: `num_pairs`, `before`, `after`, `trained`, `report`."""


async def agent_graph() -> CompiledStateGraph[AgentState, None, AgentInput, AgentState]:
    """The recipe's agent on one sample.

    Raises:
        ConfigError: The recipe names no agent, or does not fit.
    """
    recipe, agent = await asyncio.to_thread(_open)  # the tools refuse to wait for files
    assert recipe.agent is not None
    settings = agent_settings(agent, recipe.agent)
    sandbox = Sandbox(recipe.sandbox)  # starts nothing until an agent runs code

    async def read_sample(state: AgentState) -> AgentState:
        """The sample that was given, or that has this number."""
        if "sample" in state:
            return {}
        sample = await asyncio.to_thread(_sample, recipe, state.get("number", 0))
        return {"sample": sample.model_dump(mode="json")}

    async def run_agent(state: AgentState) -> AgentState:
        """The agent's own graph, with models and settings of the recipe."""
        sample = Sample.model_validate(state["sample"])
        models = await asyncio.to_thread(_models, recipe.model_dump_json())
        context = context_class(agent)(
            policy=models["policy"],
            models={role: model for role, model in models.items() if role != "policy"},
            code_sandbox=sandbox,
            config=settings,
            sample_id=sample.id,
            seed=recipe.seed,
        )
        written = await agent.ainvoke({"sample": sample}, context=context)
        return {"records": [record.model_dump(mode="json") for record in written["records"]]}

    graph = StateGraph(AgentState, input_schema=AgentInput)
    graph.add_node("read_sample", read_sample)
    graph.add_node("run_agent", run_agent)
    graph.add_edge(START, "read_sample")
    graph.add_edge("read_sample", "run_agent")
    graph.add_edge("run_agent", END)
    return graph.compile(name="agent")


async def run_graph() -> CompiledStateGraph[StagesState, None, StagesState, StagesState]:
    """All stages of the recipe, which write to its output folder.

    Raises:
        ConfigError: The recipe does not fit.
    """
    recipe = await asyncio.to_thread(_recipe)
    stages = pipeline_graph(recipe).compile()

    async def run_stages(state: StagesState) -> StagesState:
        """The stages; those that are done already are left as they are."""
        await asyncio.to_thread(claim_folder, recipe)
        context = RunContext(recipe, Console(stderr=True))
        return {"result": await stages.ainvoke({}, context=context)}

    graph = StateGraph(StagesState)
    graph.add_node("run_stages", run_stages)
    graph.add_edge(START, "run_stages")
    graph.add_edge("run_stages", END)
    return graph.compile(name="run")


def _recipe() -> RunConfig:
    return read_recipe(Path(os.environ.get("MMALIGN_CONFIG", _DEFAULT)))


def _open() -> tuple[RunConfig, AgentGraph]:
    recipe = _recipe()
    if recipe.agent is None:
        raise ConfigError("the recipe of MMALIGN_CONFIG names no agent; give one that builds data")
    return recipe, load_agent(recipe.agent)


def _sample(recipe: RunConfig, number: int) -> Sample:
    found = next(itertools.islice(read_samples(recipe.datasets), number, None), None)
    if found is None:
        raise ConfigError(f"number: the recipe's data set has no sample {number}; count from 0")
    return found


@cache
def _models(recipe_json: str) -> dict[str, ChatModel]:
    """Loaded once in a process for each recipe."""
    recipe = RunConfig.model_validate_json(recipe_json)
    return {role: load_model(model, recipe.media) for role, model in recipe.models.items()}
