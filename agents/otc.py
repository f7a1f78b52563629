"""OTC's preference pairs: the right way with the fewest calls over a longer or a wrong one.

OTC (Wang et al., 2025) trains by reinforcement learning and builds no pairs; this agent is
mmalign's reading of its reward as preference data. The policy rolls a question out several times;
each rollout earns what OTC-GRPO would pay it within this group. Pairs of the pool `economy` teach
to call less, those of `correctness` to be right; the pool stands in the pair's lineage.

Left out: the history of the smallest number of calls, for a question is seen once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import Field

from mmalign.agents.state import SampleInput
from mmalign.api import (
    Attempt,
    CapabilityError,
    Config,
    Context,
    DroppedSample,
    Lineage,
    PreferencePair,
    Response,
    Rollout,
    RolloutConfig,
    RolloutTool,
    Sample,
    SamplesTokens,
    ToolConfig,
    ToolPair,
    exact_match,
    gold_answers_of,
    load_tools,
    prompt_messages,
    roll_out,
    text_of,
    tool_pairs,
    tool_schemas,
)

__all__ = ["OTCConfig", "OTCContext", "build_graph", "response_of"]

Pool = Literal["economy", "correctness"]
_GRAPH = "mmalign.agents.otc:build_graph"


class OTCConfig(Config):
    """How questions are rolled out, and which rollouts become pairs."""

    rollouts: RolloutConfig = RolloutConfig()
    """Group, format, tools and budgets, as in a recipe of reinforcement learning."""
    smoothing: Annotated[float, Field(gt=0)] = 4.0
    """c of OTC; the largest allowed number of calls. Source: OTC allows 4 searches."""
    delta: Annotated[float, Field(gt=0)] = 0.1
    """Least difference of the sides' rewards, which are in [0, 1]; mmalign's own."""
    pools: Annotated[tuple[Pool, ...], Field(min_length=1)] = ("economy", "correctness")
    """Which pairs are written."""


@dataclass(frozen=True)
class OTCContext(Context):
    """No role besides the policy."""

    config: OTCConfig = field(default_factory=OTCConfig)


class OTCState(SampleInput, total=False):
    """What the nodes write."""

    rollouts: list[Rollout]
    records: list[PreferencePair | DroppedSample]


async def sample_rollouts(state: OTCState, runtime: Runtime[OTCContext]) -> dict[str, object]:
    """Let the policy go through the question several times; leave out what the machine failed."""
    context, config = runtime.context, runtime.context.config.rollouts
    if not isinstance(context.policy, SamplesTokens):
        raise CapabilityError(f"{context.policy.name} cannot be rolled out; take one in process")
    (group,) = await roll_out(
        context.policy,
        [state["sample"]],
        config,
        _tools(config.tools),
        seed=context.draw_seed("rollouts"),
        epoch=context.epoch,
        num_generations=config.num_generations,
    )
    rollouts = [rollout for rollout in group if rollout.stop != "error"]
    if len(rollouts) < 2:
        message = f"{len(rollouts)} of {len(group)} rollouts came to an end, a pair takes two"
        return _drop(state, "sample_rollouts", "too_few_rollouts", message)
    return {"rollouts": rollouts}


async def write_pairs(state: OTCState, runtime: Runtime[OTCContext]) -> dict[str, object]:
    """Set the best rollout over one that called more, and over one that is wrong."""
    sample, rollouts, config = state["sample"], state["rollouts"], runtime.context.config
    golds = gold_answers_of(sample)
    attempts = [
        Attempt(
            correct=rollout.answer is not None and exact_match(rollout.answer, golds),
            num_calls=rollout.num_tool_calls,
        )
        for rollout in rollouts
    ]
    if not any(attempt.correct for attempt in attempts):
        message = f"none of {len(attempts)} rollouts answers {golds[0]!r}"
        return _drop(state, "write_pairs", "none_correct", message)
    found = tool_pairs(attempts, smoothing=config.smoothing, delta=config.delta)
    pairs = [
        _pair(sample, rollouts, attempts, pair, runtime.context)
        for pair in found
        if pair.pool in config.pools and _differ(rollouts, pair)
    ]
    if not pairs:
        calls = sorted(attempt.num_calls for attempt in attempts)
        message = (
            f"no two of {len(attempts)} rollouts lie {config.delta} apart in {config.pools}; "
            f"they make {calls[0]} to {calls[-1]} calls"
        )
        return _drop(state, "write_pairs", "no_gap", message)
    return {"records": pairs}


async def go_on(state: OTCState) -> Literal["go_on", "drop"]:
    """What was dropped ends here."""
    return "drop" if "records" in state else "go_on"


def build_graph() -> CompiledStateGraph[OTCState, OTCContext, SampleInput, OTCState]:
    """Read `sample`; write a pair of each pool, or the reason why there is none, to `records`."""
    graph = StateGraph(OTCState, OTCContext, input_schema=SampleInput)
    graph.add_node("sample_rollouts", sample_rollouts)
    graph.add_node("write_pairs", write_pairs)
    graph.add_edge(START, "sample_rollouts")
    graph.add_conditional_edges("sample_rollouts", go_on, {"go_on": "write_pairs", "drop": END})
    graph.add_edge("write_pairs", END)
    return graph.compile()


def response_of(rollout: Rollout, *, score: float | None = None) -> Response:
    """A rollout as one side of a pair: its text, without loss on what the policy did not write."""
    observed: list[tuple[int, int]] = []
    end = 0
    for segment in rollout.segments:
        start, end = end, end + len(segment.text)
        if segment.kind != "policy" and segment.text:
            observed.append((start, end))
    return Response(messages=(text_of(rollout.text),), observed=tuple(observed), score=score)


@lru_cache(maxsize=4)
def _tools(configs: tuple[ToolConfig, ...]) -> tuple[RolloutTool, ...]:
    """Built once for all samples: an index of a corpus takes its time."""
    return load_tools(configs)


def _differ(rollouts: Sequence[Rollout], pair: ToolPair) -> bool:
    """A rollout that was cut off has no text worth rejecting, and equal ones are no pair."""
    chosen, rejected = (rollouts[place].text.strip() for place in (pair.chosen, pair.rejected))
    return bool(rejected) and chosen != rejected


def _pair(
    sample: Sample,
    rollouts: Sequence[Rollout],
    attempts: Sequence[Attempt],
    pair: ToolPair,
    context: OTCContext,
) -> PreferencePair:
    config, tools = context.config.rollouts, _tools(context.config.rollouts.tools)
    chosen, rejected = rollouts[pair.chosen], rollouts[pair.rejected]
    lineage = _lineage(sample)
    return PreferencePair(
        sample_id=sample.id,
        prompt=prompt_messages(sample, config, tools),
        chosen=response_of(chosen, score=pair.chosen_reward),
        rejected=response_of(rejected, score=pair.rejected_reward),
        tools=tool_schemas(tools, config),
        metadata={
            "pool": pair.pool,
            "fewest_calls": pair.fewest_calls,
            "chosen_calls": attempts[pair.chosen].num_calls,
            "rejected_calls": attempts[pair.rejected].num_calls,
        },
        lineage=lineage.model_copy(
            update={
                "node": "write_pairs",
                "policy": context.policy.name,
                "tags": {**lineage.tags, "pool": pair.pool},
                "cost": sum(run.cost for one in rollouts for run in one.tool_runs),
            }
        ),
    )


def _lineage(sample: Sample) -> Lineage:
    kind = sample.metadata.get("question_type")
    return Lineage(graph=_GRAPH, tags={"question_type": kind} if isinstance(kind, str) else {})


def _drop(state: OTCState, node: str, reason: str, message: str) -> dict[str, object]:
    dropped = DroppedSample(
        sample_id=state["sample"].id,
        reason=reason,
        node=node,
        message=message,
        lineage=_lineage(state["sample"]),
    )
    return {"records": [dropped]}
