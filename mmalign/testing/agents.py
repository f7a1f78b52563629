"""Agents for tests and benchmarks of the engine: one of five model calls, one that asks people."""

import itertools
from dataclasses import dataclass, field
from typing import ClassVar, TypedDict, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from mmalign.config import Config
from mmalign.engine.agent import AgentGraph, AgentRecord
from mmalign.engine.context import Context
from mmalign.models.protocol import Sampling
from mmalign.records import (
    DroppedSample,
    Lineage,
    PreferencePair,
    Response,
    Sample,
    text_of,
    user,
)

__all__ = [
    "FiveNodeConfig",
    "FiveNodeContext",
    "PersonConfig",
    "PersonContext",
    "build_graph",
    "build_person_graph",
    "numbered_samples",
]

ContextT = TypeVar("ContextT", bound=Context)


class FiveNodeConfig(Config):
    """What the agent drops."""

    drop_every: int = 7
    """A sample whose number is divisible by it is dropped; 0 drops none."""


@dataclass(frozen=True)
class FiveNodeContext(Context):
    """The context with this agent's settings."""

    config: FiveNodeConfig = field(default_factory=FiveNodeConfig)


class FiveNodeInput(TypedDict):
    """What the engine gives."""

    sample: Sample


class FiveNodeState(FiveNodeInput, total=False):
    """What the nodes write."""

    caption: str
    answer: str
    verdict: str
    rejected: str
    records: list[AgentRecord]


async def ask(runtime: Runtime[ContextT], name: str, text: str) -> str:
    """One answer of the policy."""
    context = runtime.context
    (completion,) = await context.policy.generate(
        [user(f"{name}: {text}")],
        sampling=Sampling(temperature=1.0, max_completion_length=32),
        seed=context.draw_seed(name),
    )
    return completion.text


async def caption(state: FiveNodeState, runtime: Runtime[ContextT]) -> dict[str, object]:
    """Say what there is."""
    return {"caption": await ask(runtime, "caption", state["sample"].question)}


async def answer(state: FiveNodeState, runtime: Runtime[FiveNodeContext]) -> dict[str, object]:
    """Answer the question."""
    return {"answer": await ask(runtime, "answer", state["caption"])}


async def judge(state: FiveNodeState, runtime: Runtime[FiveNodeContext]) -> dict[str, object]:
    """Judge the answer."""
    return {"verdict": await ask(runtime, "judge", state["answer"])}


async def spoil(state: FiveNodeState, runtime: Runtime[FiveNodeContext]) -> dict[str, object]:
    """Write a worse answer."""
    return {"rejected": await ask(runtime, "spoil", state["verdict"])}


async def write_pair(state: FiveNodeState, runtime: Runtime[FiveNodeContext]) -> dict[str, object]:
    """Make a pair, or drop the sample."""
    sample = state["sample"]
    closing = await ask(runtime, "close", state["rejected"])
    drop_every = runtime.context.config.drop_every
    if drop_every and int(sample.metadata["number"]) % drop_every == 0:
        drop = DroppedSample(
            sample_id=sample.id, reason="divisible", node="write_pair", message="by the rule"
        )
        return {"records": [drop]}
    pair = PreferencePair(
        sample_id=sample.id,
        prompt=sample.messages,
        chosen=Response(messages=(text_of(state["answer"]),)),
        rejected=Response(messages=(text_of(f"{state['rejected']} {closing}"),)),
    )
    return {"records": [pair]}


def build_graph() -> AgentGraph:
    """Caption, answer, judge, spoil, write."""
    graph = StateGraph(FiveNodeState, FiveNodeContext, input_schema=FiveNodeInput)
    nodes = (caption, answer, judge, spoil, write_pair)
    for node in nodes:
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "caption")
    for left, right in itertools.pairwise(nodes):
        graph.add_edge(left.__name__, right.__name__)
    graph.add_edge("write_pair", END)
    return graph.compile()


class PersonConfig(Config):
    """How much the agent asks."""

    num_questions: int = 1
    """One asks for a verdict; a second one for its reason."""


@dataclass(frozen=True)
class PersonContext(Context):
    """The context of an agent that waits for people."""

    interrupts: ClassVar[bool] = True
    config: PersonConfig = field(default_factory=PersonConfig)


class PersonState(FiveNodeInput, total=False):
    """What the nodes write."""

    caption: str
    verdict: str
    reason: str
    records: list[AgentRecord]


async def ask_verdict(state: PersonState, runtime: Runtime[PersonContext]) -> dict[str, object]:
    """Let a person judge the caption beside the model's own opinion."""
    opinion = await ask(runtime, "opinion", state["caption"])
    shown = {"caption": state["caption"], "opinion": opinion, "choices": ["good", "bad"]}
    return {"verdict": interrupt(shown)}


async def ask_reason(state: PersonState, runtime: Runtime[PersonContext]) -> dict[str, object]:
    """Let the person say why."""
    if runtime.context.config.num_questions < 2:
        return {}
    return {"reason": interrupt({"question": f"why {state['verdict']}?"})}


async def write_judged_pair(
    state: PersonState, runtime: Runtime[PersonContext]
) -> dict[str, object]:
    """A pair with the person's vote in its lineage, or the reason why there is none."""
    sample = state["sample"]
    if state["verdict"] != "good":
        drop = DroppedSample(
            sample_id=sample.id, reason="bad", node="write_judged_pair", message="a person says so"
        )
        return {"records": [drop]}
    vote = {key: state[key] for key in ("verdict", "reason") if key in state}
    pair = PreferencePair(
        sample_id=sample.id,
        prompt=sample.messages,
        chosen=Response(messages=(text_of(state["caption"]),)),
        rejected=Response(messages=(text_of(await ask(runtime, "spoil", state["caption"])),)),
        lineage=Lineage(votes={"person": vote}),
    )
    return {"records": [pair]}


def build_person_graph() -> AgentGraph:
    """Caption; stop for a person's verdict, and for its reason; write."""
    graph = StateGraph(PersonState, PersonContext, input_schema=FiveNodeInput)
    graph.add_node("caption", caption)
    graph.add_node("ask_verdict", ask_verdict)
    graph.add_node("ask_reason", ask_reason)
    graph.add_node("write_judged_pair", write_judged_pair)
    graph.add_edge(START, "caption")
    graph.add_edge("caption", "ask_verdict")
    graph.add_edge("ask_verdict", "ask_reason")
    graph.add_edge("ask_reason", "write_judged_pair")
    graph.add_edge("write_judged_pair", END)
    return graph.compile()


def numbered_samples(num_samples: int) -> list[Sample]:
    """Samples s0, s1 ... with a question each."""
    return [
        Sample(
            id=f"s{number}",
            messages=(user(f"What happens in scene {number}?"),),
            metadata={"number": number, "dataset": "numbers"},
        )
        for number in range(num_samples)
    ]
