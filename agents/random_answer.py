"""The gold answer over one of the policy's own, drawn at random: what choosing is compared with.

Nobody judges anything: the rejected answer may be vague, wrong, or right in other words.
"""

from dataclasses import dataclass, field
from typing import Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import Field

from mmalign.agents.state import SampleInput
from mmalign.api import (
    Config,
    Context,
    DroppedSample,
    Lineage,
    PreferencePair,
    Response,
    Sampling,
    gold_answer,
    text_of,
)

__all__ = ["RandomAnswerConfig", "RandomAnswerContext", "build_graph"]


class RandomAnswerConfig(Config):
    """How answers are sampled."""

    num_generations: int = Field(default=5, gt=0)
    """Answers that are sampled for each question; one of them is taken."""
    temperature: float = Field(default=1.0, gt=0)
    """Of these answers."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Of these answers."""
    max_completion_length: int = Field(default=128, gt=0)
    """Tokens of an answer."""


@dataclass(frozen=True)
class RandomAnswerContext(Context):
    """No role besides the policy."""

    config: RandomAnswerConfig = field(default_factory=RandomAnswerConfig)


class RandomAnswerState(SampleInput, total=False):
    """What the nodes write."""

    gold: str
    answers: list[str]
    records: list[PreferencePair | DroppedSample]


async def sample_answers(
    state: RandomAnswerState, runtime: Runtime[RandomAnswerContext]
) -> dict[str, object]:
    """Ask the policy several times."""
    context, config = runtime.context, runtime.context.config
    gold = gold_answer(state["sample"])
    if gold is None:
        return _drop(state, "sample_answers", "no_answer", "the question has no gold answer")
    completions = await context.policy.generate(
        state["sample"].messages,
        n=config.num_generations,
        sampling=Sampling(
            temperature=config.temperature,
            top_p=config.top_p,
            max_completion_length=config.max_completion_length,
        ),
        seed=context.draw_seed("answers"),
    )
    return {"gold": gold, "answers": [one.text.strip() for one in completions]}


async def write_pair(
    state: RandomAnswerState, runtime: Runtime[RandomAnswerContext]
) -> dict[str, object]:
    """Draw one of the answers that are not the gold one, word by word."""
    context, gold = runtime.context, state["gold"]
    others = [text for text in state["answers"] if text and text != gold]
    if not others:
        message = f"all of {len(state['answers'])} answers are empty or the gold one: {gold[:80]!r}"
        return _drop(state, "write_pair", "no_other_answer", message)
    pair = PreferencePair(
        sample_id=state["sample"].id,
        prompt=state["sample"].messages,
        chosen=Response(messages=(text_of(gold),)),
        rejected=Response(messages=(text_of(context.rng("rejected").choice(others)),)),
        lineage=_lineage(state).model_copy(
            update={"node": "write_pair", "policy": context.policy.name}
        ),
    )
    return {"records": [pair]}


async def go_on(state: RandomAnswerState) -> Literal["go_on", "drop"]:
    """What was dropped ends here."""
    return "drop" if "records" in state else "go_on"


def build_graph() -> CompiledStateGraph[
    RandomAnswerState, RandomAnswerContext, SampleInput, RandomAnswerState
]:
    """Read `sample`; write one pair, or the reason why there is none, to `records`."""
    graph = StateGraph(RandomAnswerState, RandomAnswerContext, input_schema=SampleInput)
    graph.add_node("sample_answers", sample_answers)
    graph.add_node("write_pair", write_pair)
    graph.add_edge(START, "sample_answers")
    graph.add_conditional_edges("sample_answers", go_on, {"go_on": "write_pair", "drop": END})
    graph.add_edge("write_pair", END)
    return graph.compile()


def _lineage(state: RandomAnswerState) -> Lineage:
    kind = state["sample"].metadata.get("question_type")
    return Lineage(
        graph="mmalign.agents.random_answer:build_graph",
        tags={"question_type": kind} if isinstance(kind, str) else {},
    )


def _drop(state: RandomAnswerState, node: str, reason: str, message: str) -> dict[str, object]:
    dropped = DroppedSample(
        sample_id=state["sample"].id,
        reason=reason,
        node=node,
        message=message,
        lineage=_lineage(state),
    )
    return {"records": [dropped]}
