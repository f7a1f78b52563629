import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from rich.console import Console

from mmalign.engine import (
    AgentGraph,
    BudgetConfig,
    Context,
    EngineConfig,
    Funnel,
    FunnelRow,
    Manifest,
    Price,
    RunStore,
    config_class,
    export,
    run_agent,
    run_agent_blocking,
    samples_fingerprint,
)
from mmalign.errors import (
    AgentError,
    BudgetReachedError,
    FailedRatioError,
    MediaCorruptError,
    ModelCallError,
    ModelUnavailableError,
    PluginError,
    RecordError,
    StoreError,
)
from mmalign.models.protocol import ChatModel
from mmalign.records import DroppedSample, Message, PreferencePair, Response, Sample, text_of
from mmalign.testing.agents import FiveNodeConfig, FiveNodeState, build_graph, numbered_samples
from mmalign.testing.models import FailingModel, ScriptedModel, SlowModel

MANIFEST = Manifest(agent="mmalign.testing.agents:build_graph", dataset="numbers", seed=7)
QUICK = EngineConfig(max_concurrency=4, retry_wait_s=0.0)


def build(
    folder: Path, samples: Any, policy: ChatModel, graph: AgentGraph | None = None, **more: Any
) -> Funnel:
    with RunStore(folder) as store:
        settings = {"manifest": MANIFEST, "engine": QUICK, **more}
        graph = graph or build_graph()
        funnel = run_agent_blocking(graph, samples, store=store, policy=policy, **settings)
        export(store)
        return funnel


def one_node(node: Callable[[Sample, Runtime[Context]], Any]) -> AgentGraph:
    """A graph whose only node, `only`, writes what the function returns."""

    async def only(state: FiveNodeState, runtime: Runtime[Context]) -> dict[str, Any]:
        return {"records": await node(state["sample"], runtime)}

    graph = StateGraph(FiveNodeState, Context)
    graph.add_node("only", only)
    graph.add_edge(START, "only")
    graph.add_edge("only", END)
    return graph.compile()


async def answered(sample: Sample, runtime: Runtime[Context]) -> list[PreferencePair]:
    (completion,) = await runtime.context.policy.generate(sample.messages)
    return [
        PreferencePair(
            sample_id=sample.id,
            prompt=sample.messages,
            chosen=Response(messages=(text_of(completion.text),)),
            rejected=Response(messages=(text_of("no"),)),
        )
    ]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_sample_becomes_a_pair_or_a_dropped_record(tmp_path: Path) -> None:
    funnel = build(tmp_path, numbered_samples(20), ScriptedModel())
    assert (funnel.num_in, funnel.num_kept, funnel.num_pairs) == (20, 17, 17)
    assert funnel.dropped == (FunnelRow("divisible", "write_pair", 3),)
    assert funnel.num_calls == 100
    pairs, dropped = (lines(tmp_path / "data" / f"{name}.jsonl") for name in ("pairs", "dropped"))
    assert [p["sample_id"] for p in pairs] == [f"s{i}" for i in range(20) if i % 7]
    assert [d["sample_id"] for d in dropped] == ["s0", "s7", "s14"]
    assert json.loads((tmp_path / "data" / "funnel.json").read_text())["num_dropped"] == 3


def test_the_lineage_says_where_a_pair_came_from_and_what_it_cost(tmp_path: Path) -> None:
    """Each of five calls takes some tokens; prompt tokens cost 1 and completion tokens 2."""
    model = ScriptedModel(script=lambda call, draw: "three words here" + str(call.seed))
    budget = BudgetConfig(prices={"policy": Price(prompt=1e6, completion=2e6)})
    build(tmp_path, numbered_samples(2), model, budget=budget)
    with RunStore(tmp_path, read_only=True) as store:
        (pair,) = store.pairs()
        totals = store.totals()
    lineage = pair.lineage
    prompt_tokens = sum(len(call.prompt.split()) for call in model.calls) / 2
    assert (lineage.run_id, lineage.graph, lineage.policy) == (
        MANIFEST.run_id,
        MANIFEST.agent,
        "scripted@1",
    )
    assert (lineage.source, lineage.seed) == ("numbers", 7)
    assert lineage.cost == prompt_tokens + 2 * 5 * 3
    assert lineage.num_tokens == prompt_tokens + 5 * 3
    assert lineage.version is not None
    assert lineage.created_at is not None
    assert (totals.cost, totals.num_tokens) == (2 * lineage.cost, 2 * lineage.num_tokens)


def test_the_same_call_again_asks_nothing_and_changes_nothing(tmp_path: Path) -> None:
    model = ScriptedModel()
    first = build(tmp_path, numbered_samples(10), model)
    before = (tmp_path / "data" / "pairs.jsonl").read_bytes()
    assert build(tmp_path, numbered_samples(10), model) == first
    assert len(model.calls) == 50
    assert (tmp_path / "data" / "pairs.jsonl").read_bytes() == before


def test_a_rebuild_asks_only_what_changed(tmp_path: Path) -> None:
    model = ScriptedModel()
    build(tmp_path, numbered_samples(14), model, config=FiveNodeConfig(drop_every=7))
    other = MANIFEST.model_copy(update={"config": {"drop_every": 2}})
    changed: dict[str, Any] = {"manifest": other, "config": FiveNodeConfig(drop_every=2)}
    with pytest.raises(StoreError, match=r"config\.drop_every: 'absent' there, 2 now"):
        build(tmp_path, numbered_samples(14), model, **changed)
    funnel = build(tmp_path, numbered_samples(14), model, rebuild=True, **changed)
    assert funnel.num_kept == 7
    assert len(model.calls) == 70


def test_no_more_samples_than_allowed_are_under_way_or_read_ahead(tmp_path: Path) -> None:
    read, under_way, most = 0, 0, 0

    class Watched(SlowModel):
        async def generate(self, messages: Any, **settings: Any) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            assert read - len(self.calls) <= 4
            result = await super().generate(messages, **settings)
            under_way -= 1
            return result

    def reader() -> Iterator[Sample]:
        nonlocal read
        for sample in numbered_samples(20):
            read += 1
            yield sample

    build(tmp_path, reader(), Watched(wait_s=0.001), one_node(answered))
    assert (read, most) == (20, 4)


def test_two_samples_with_one_id_are_refused_with_their_positions(tmp_path: Path) -> None:
    samples = numbered_samples(6)
    samples[4] = samples[1]
    with pytest.raises(RecordError, match="positions 1 and 4 have one id, 's1'"):
        build(tmp_path, samples, ScriptedModel())
    with pytest.raises(RecordError, match="positions 1 and 4"):  # also when s1 is committed
        build(tmp_path, samples, ScriptedModel())


def test_an_empty_id_is_refused_with_its_position(tmp_path: Path) -> None:
    samples = numbered_samples(3)
    samples[2] = samples[2].model_copy(update={"id": " "})
    with pytest.raises(RecordError, match="sample at position 2: its id is empty"):
        build(tmp_path, samples, ScriptedModel())


def test_a_data_set_in_another_order_is_refused(tmp_path: Path) -> None:
    build(tmp_path, numbered_samples(3), ScriptedModel())
    with pytest.raises(StoreError, match="'s2' was committed from position 2 and now stands at 0"):
        build(tmp_path, numbered_samples(3)[::-1], ScriptedModel())


def test_a_graph_that_writes_nothing_drops_the_sample(tmp_path: Path) -> None:
    async def silent(sample: Sample, runtime: Runtime[Context]) -> list[Any]:
        return []

    funnel = build(tmp_path, numbered_samples(2), ScriptedModel(), one_node(silent))
    assert funnel.dropped == (FunnelRow("no_record", "", 2),)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MediaCorruptError("clip.mp4: bad packet at 3.2 s"), "media_corrupt"),
        (ModelCallError("refused"), "model_error"),
        (RecordError("bad span"), "record_invalid"),
    ],
)
def test_what_is_wrong_with_a_sample_costs_only_the_sample(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    async def sometimes(sample: Sample, runtime: Runtime[Context]) -> Any:
        if sample.id == "s1":
            raise error
        return await answered(sample, runtime)

    funnel = build(tmp_path, numbered_samples(5), ScriptedModel(), one_node(sometimes))
    assert funnel.num_kept == 4
    assert funnel.failed == (FunnelRow(reason, "only", 1),)
    (drop,) = lines(tmp_path / "data" / "dropped.jsonl")
    assert (drop["kind"], drop["message"]) == ("failed", str(error))


def test_an_invalid_record_in_a_node_is_a_failed_sample(tmp_path: Path) -> None:
    async def same(sample: Sample, runtime: Runtime[Context]) -> Any:
        side = Response(messages=(text_of("no"),))
        return [
            PreferencePair(sample_id=sample.id, prompt=sample.messages, chosen=side, rejected=side)
        ]

    funnel = build(tmp_path, numbered_samples(2), ScriptedModel(), one_node(same))
    assert funnel.failed == (FunnelRow("record_invalid", "only", 2),)


def test_a_passing_failure_is_tried_again(tmp_path: Path) -> None:
    model = FailingModel(errors=[ModelUnavailableError("503"), ModelUnavailableError("503")])
    funnel = build(tmp_path, numbered_samples(1), model, one_node(answered))
    assert funnel.num_kept == 1
    assert len(model.calls) == 3


def test_a_failure_that_stays_is_committed_and_can_be_retried(tmp_path: Path) -> None:
    down = FailingModel(errors=[ModelUnavailableError("503")], forever=True)
    graph, samples = one_node(answered), numbered_samples(2)
    funnel = build(tmp_path, samples, down, graph)
    assert funnel.failed == (FunnelRow("model_unavailable", "only", 2),)
    assert len(down.calls) == 2 * QUICK.max_attempts
    assert build(tmp_path, samples, ScriptedModel(), graph).num_failed == 2
    again = QUICK.model_copy(update={"retry_failed": True})
    assert build(tmp_path, samples, ScriptedModel(), graph, engine=again).num_kept == 2


def test_too_many_failures_stop_the_run(tmp_path: Path) -> None:
    down = FailingModel(errors=[ModelCallError("401 no such key")], forever=True)
    with pytest.raises(
        FailedRatioError, match=r"more than engine\.max_failed_ratio .* 401 no such"
    ):
        build(tmp_path, numbered_samples(500), down, one_node(answered))
    assert len(down.calls) < 40


def test_an_error_in_the_agents_code_stops_the_run_and_names_sample_and_node(
    tmp_path: Path,
) -> None:
    async def broken(sample: Sample, runtime: Runtime[Context]) -> Any:
        if sample.id == "s30":
            raise KeyError("colour")
        return await answered(sample, runtime)

    with pytest.raises(
        AgentError, match=r"'s30' \(position 30\): node 'only' .* KeyError"
    ) as caught:
        build(tmp_path, numbered_samples(100), ScriptedModel(), one_node(broken))
    assert isinstance(caught.value.__cause__, KeyError)
    with RunStore(tmp_path, read_only=True) as store:
        assert 26 <= store.num_committed < 40
    assert build(tmp_path, numbered_samples(100), ScriptedModel(), one_node(answered)).num_in == 100


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("text", "`records` holds a str"),
        (DroppedSample(sample_id="x", reason="r", node="n", message=""), "of sample 'x'"),
    ],
)
def test_what_is_no_record_of_the_sample_is_an_agents_error(
    tmp_path: Path, record: Any, said: str
) -> None:
    async def wrong(sample: Sample, runtime: Runtime[Context]) -> Any:
        return [record]

    with pytest.raises(AgentError, match=said):
        build(tmp_path, numbered_samples(1), ScriptedModel(), one_node(wrong))


def test_a_graph_that_never_ends_is_a_failed_sample(tmp_path: Path) -> None:
    async def turn(state: FiveNodeState, runtime: Runtime[Context]) -> dict[str, Any]:
        await runtime.context.policy.generate(state["sample"].messages)
        return {}

    graph = StateGraph(FiveNodeState, Context)
    graph.add_node("turn", turn)
    graph.add_edge(START, "turn")
    graph.add_conditional_edges("turn", lambda state: "turn", ["turn"])
    engine = QUICK.model_copy(update={"recursion_limit": 9})
    funnel = build(tmp_path, numbered_samples(1), ScriptedModel(), graph.compile(), engine=engine)
    assert funnel.failed == (FunnelRow("recursion_limit", "turn", 1),)


def test_a_budget_stops_the_run_and_a_larger_one_resumes_it(tmp_path: Path) -> None:
    """Paid answers stay; two starts together ask as often as one start without a limit."""
    samples, words = numbered_samples(30), ScriptedModel(script=lambda call, draw: "some words")
    budget = BudgetConfig(max_tokens=600)
    with pytest.raises(BudgetReachedError) as caught:
        build(tmp_path, samples, words, budget=budget)
    with RunStore(tmp_path, read_only=True) as store:
        num_committed, spent = store.num_committed, store.totals()
    assert 0 < num_committed < 30
    assert 600 - 80 < spent.num_tokens <= 600
    assert f"{spent.num_tokens:,} of 600 tokens" in str(caught.value)
    assert "raise budget.max_tokens" in str(caught.value)
    assert f"{num_committed} samples are committed, {30 - num_committed} are left" in str(
        caught.value
    )
    with pytest.raises(BudgetReachedError):
        build(tmp_path, samples, words, budget=budget)
    funnel = build(tmp_path, samples, words, budget=BudgetConfig(max_tokens=10**6))
    assert funnel.num_in == 30
    assert len(words.calls) == funnel.num_calls == 150


def test_a_budget_of_money_counts_by_the_price_table(tmp_path: Path) -> None:
    budget = BudgetConfig(max_cost=0.5, prices={"scripted": Price(prompt=1000, completion=1000)})
    with pytest.raises(BudgetReachedError, match=r"of 0\.5 .*raise budget\.max_cost"):
        build(tmp_path, numbered_samples(100), ScriptedModel(), budget=budget)
    with RunStore(tmp_path, read_only=True) as store:
        assert 0.4 < store.totals().cost <= 0.5


def test_an_agent_that_swallows_the_refusal_commits_nothing_made_of_it(tmp_path: Path) -> None:
    async def greedy(sample: Sample, runtime: Runtime[Context]) -> Any:
        try:
            return await answered(sample, runtime)
        except Exception as error:  # noqa: BLE001  # what an agent should not do
            drop = DroppedSample(
                sample_id=sample.id, reason="oops", node="only", message=str(error)
            )
            return [drop]

    with pytest.raises(BudgetReachedError):
        build(
            tmp_path,
            numbered_samples(50),
            ScriptedModel(),
            one_node(greedy),
            budget=BudgetConfig(max_tokens=600),
        )
    with RunStore(tmp_path, read_only=True) as store:
        assert list(store.dropped()) == []
        assert store.num_committed == store.totals().num_calls > 0


def test_a_cancelled_run_ends_its_samples(tmp_path: Path) -> None:
    async def run() -> int:
        with RunStore(tmp_path) as store:
            task = asyncio.create_task(
                run_agent(
                    one_node(answered),
                    numbered_samples(4),
                    store=store,
                    manifest=MANIFEST,
                    policy=SlowModel(wait_s=60),
                )
            )
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1


def test_draws_depend_on_sample_and_seed_only(tmp_path: Path) -> None:
    """Another order of work, because of another concurrency, gives the same pairs."""
    for name, concurrency in (("one", 1), ("many", 8)):
        engine = QUICK.model_copy(update={"max_concurrency": concurrency})
        build(tmp_path / name, numbered_samples(20), SlowModel(wait_s=0.001), engine=engine)
    one, many = (
        [(p["id"], p["lineage"]["cost"]) for p in lines(tmp_path / n / "data" / "pairs.jsonl")]
        for n in ("one", "many")
    )
    assert one == many


def test_a_graph_with_a_foreign_context_or_state_is_refused(tmp_path: Path) -> None:
    graph: Any = StateGraph(FiveNodeState)
    graph.add_node("n", lambda state: {})
    graph.add_edge(START, "n")
    with pytest.raises(PluginError, match="context_schema that derives from Context"):
        build(tmp_path, numbered_samples(1), ScriptedModel(), graph.compile())
    bare: Any = StateGraph(dict[str, Message], Context)
    bare.add_node("n", lambda state: {})
    bare.add_edge(START, "n")
    with pytest.raises(PluginError, match="no sample and no records"):
        build(tmp_path, numbered_samples(1), ScriptedModel(), bare.compile())


def test_the_agents_config_class_is_found() -> None:
    assert config_class(build_graph()) is FiveNodeConfig


def test_the_fingerprint_depends_on_content_and_order() -> None:
    samples = numbered_samples(3)
    assert samples_fingerprint(samples) == samples_fingerprint(numbered_samples(3))
    assert samples_fingerprint(samples) != samples_fingerprint(samples[::-1])
    assert samples_fingerprint(samples) != samples_fingerprint(samples[:2])


def test_progress_is_a_log_line_without_a_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    screen = io.StringIO()
    with caplog.at_level(logging.INFO, logger="mmalign.engine"):
        console = Console(file=screen, force_terminal=False)
        build(tmp_path, numbered_samples(10), ScriptedModel(), console=console)
    assert screen.getvalue() == ""
    assert "10/10 samples" in caplog.text
    assert "8 kept, 2 dropped" in caplog.text


def test_progress_is_a_live_line_on_a_terminal(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    build(tmp_path, numbered_samples(10), ScriptedModel(), console=console)
    assert "10/10 samples" in screen.getvalue()


def test_the_funnel_can_be_shown(tmp_path: Path) -> None:
    funnel = build(tmp_path, numbered_samples(14), ScriptedModel())
    console = Console(file=io.StringIO(), width=100)
    console.print(funnel.table())
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "divisible" in shown
    assert "14.3%" in shown
