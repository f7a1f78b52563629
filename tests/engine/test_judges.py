"""A run ends where its judge cannot be relied on."""

from pathlib import Path

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from mmalign.engine import (
    AgentGraph,
    Context,
    EngineConfig,
    Funnel,
    Manifest,
    RunStore,
    run_agent_blocking,
)
from mmalign.errors import FailedRatioError
from mmalign.records import DroppedSample, Lineage, PreferencePair, Response, text_of
from mmalign.testing.agents import FiveNodeState, numbered_samples
from mmalign.testing.models import ScriptedModel


def judging(*, invalid_every: int, judged_every: int = 1) -> AgentGraph:
    """Keeps a sample, but for each n-th, whose judge cannot be read."""

    async def judge(state: FiveNodeState, runtime: Runtime[Context]) -> dict[str, object]:
        sample = state["sample"]
        number = int(sample.metadata["number"])
        if number % invalid_every == invalid_every - 1:
            dropped = DroppedSample(
                sample_id=sample.id, reason="judge_invalid", node="judge", message="no JSON"
            )
            return {"records": [dropped]}
        pair = PreferencePair(
            sample_id=sample.id,
            prompt=sample.messages,
            chosen=Response(messages=(text_of("yes"),)),
            rejected=Response(messages=(text_of("no"),)),
            lineage=Lineage(judge="judge@1" if number % judged_every == 0 else None),
        )
        return {"records": [pair]}

    graph = StateGraph(FiveNodeState, Context)
    graph.add_node("judge", judge)
    graph.add_edge(START, "judge")
    graph.add_edge("judge", END)
    return graph.compile()


def build(folder: Path, graph: AgentGraph, **engine: object) -> Funnel:
    with RunStore(folder) as store:
        return run_agent_blocking(
            graph,
            numbered_samples(200),
            store=store,
            manifest=Manifest(agent="tests:judging", dataset="numbers", seed=7),
            policy=ScriptedModel(),
            engine=EngineConfig(max_concurrency=4, **engine),
        )


def test_too_many_invalid_replies_end_the_run_after_fifty_samples(tmp_path: Path) -> None:
    with pytest.raises(
        FailedRatioError, match=r"judge unreliable: .*max_judge_invalid_ratio 0\.1 .* no JSON"
    ):
        build(tmp_path, judging(invalid_every=8))
    with RunStore(tmp_path, read_only=True) as store:
        assert 50 <= store.num_committed < 80


def test_a_tenth_is_borne(tmp_path: Path) -> None:
    assert build(tmp_path, judging(invalid_every=10)).num_in == 200


def test_the_share_can_be_set(tmp_path: Path) -> None:
    funnel = build(tmp_path, judging(invalid_every=8), max_judge_invalid_ratio=0.2)
    assert funnel.num_dropped == 25


def test_samples_without_a_judge_do_not_dilute_the_share(tmp_path: Path) -> None:
    with pytest.raises(FailedRatioError, match="judge unreliable"):
        build(tmp_path, judging(invalid_every=20, judged_every=4), min_judged_for_ratio=10)
