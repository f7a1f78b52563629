"""Your own data: the rejected answer is what the policy says without seeing the clip."""

from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from mmalign.api import Context, DroppedSample, PreferencePair, Response, Sample, text_of, user


class State(TypedDict, total=False):
    """The engine gives `sample` and takes `records`."""

    sample: Sample
    records: list[PreferencePair | DroppedSample]


async def answer_blind(state: State, runtime: Runtime[Context]) -> State:
    """Ask the policy for an answer to the question alone."""
    sample, policy = state["sample"], runtime.context.policy
    gold, seed = sample.answer or "", runtime.context.draw_seed("blind")
    (blind,) = await policy.generate([user(sample.question)], seed=seed)
    if blind.text.strip() in ("", gold):
        why = {"reason": "not_wrong", "node": "answer_blind", "message": blind.text}
        return {"records": [DroppedSample(sample_id=sample.id, **why)]}
    pair = PreferencePair(
        sample_id=sample.id,
        prompt=sample.messages,
        chosen=Response(messages=(text_of(gold),)),
        rejected=Response(messages=(text_of(blind.text),)),
    )
    return {"records": [pair]}


def build_graph() -> CompiledStateGraph[State, Context, State, State]:
    """One node; a recipe names this function."""
    graph = StateGraph(State, Context).add_node("answer_blind", answer_blind)
    return graph.add_edge(START, "answer_blind").compile()
