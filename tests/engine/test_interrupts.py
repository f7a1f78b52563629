"""Agents that stop for a person: nothing is asked, called or paid for twice, killed or not."""

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, ClassVar

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from rich.console import Console

from mmalign.engine import (
    AgentGraph,
    Context,
    EngineConfig,
    Funnel,
    FunnelRow,
    Manifest,
    RunStore,
    answer,
    answers_given,
    context_class,
    export,
    run_agent,
    run_agent_blocking,
    waiting,
)
from mmalign.engine.database import open_database
from mmalign.errors import AgentError, ConfigError, ModelUnavailableError, PluginError
from mmalign.models.protocol import ChatModel
from mmalign.records import DroppedSample
from mmalign.testing.agents import (
    FiveNodeState,
    PersonConfig,
    build_graph,
    build_person_graph,
    numbered_samples,
)
from mmalign.testing.killable import main_of_fork
from mmalign.testing.models import FailingModel, ScriptedModel

MANIFEST = Manifest(agent="mmalign.testing.agents:build_person_graph", dataset="numbers", seed=7)
QUICK = EngineConfig(max_concurrency=4, retry_wait_s=0.0)
TWICE = PersonConfig(num_questions=2)


def build(
    folder: Path,
    policy: ChatModel | None = None,
    graph: AgentGraph | None = None,
    *,
    num_samples: int = 3,
    **more: Any,
) -> Funnel:
    with RunStore(folder) as store:
        settings = {"manifest": MANIFEST, "engine": QUICK, "console": Console(quiet=True), **more}
        run_agent_blocking(
            graph or build_person_graph(),
            numbered_samples(num_samples),
            store=store,
            policy=policy or ScriptedModel(),
            **settings,
        )
        return export(store)


def reply(folder: Path, sample_id: str, value: object, by: str = "ann") -> None:
    with RunStore(folder, read_only=True) as store:
        answer(store, sample_id, value, by=by)


def asked(folder: Path) -> dict[str, Any]:
    """Payloads of the waiting samples."""
    with RunStore(folder, read_only=True) as store:
        return {one.sample_id: one.payload for one in waiting(store)}


def rows(folder: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(folder / "store.sqlite")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_a_sample_waits_with_its_question_and_the_others_go_on(tmp_path: Path) -> None:
    build(tmp_path)
    with RunStore(tmp_path, read_only=True) as store:
        found = waiting(store)
        assert [one.sample_id for one in found] == ["s0", "s1", "s2"]
        assert found[1].sample == numbered_samples(2)[1]
        assert found[1].node == "ask_verdict"
        assert found[1].payload["choices"] == ["good", "bad"]
        assert found[1].asked_at.endswith("+00:00")
        assert found[1].answer is None
    reply(tmp_path, "s1", "good")
    funnel = build(tmp_path)
    assert (funnel.num_in, funnel.num_kept, funnel.num_waiting) == (3, 1, 2)
    assert funnel.waiting == (FunnelRow("asks_a_person", "ask_verdict", 2),)
    assert sorted(asked(tmp_path)) == ["s0", "s2"]
    assert json.loads((tmp_path / "data" / "funnel.json").read_text())["num_waiting"] == 2


def test_the_answer_reaches_the_votes_of_the_pair(tmp_path: Path) -> None:
    build(tmp_path, num_samples=1)
    reply(tmp_path, "s0", "good")
    build(tmp_path, num_samples=1)
    with RunStore(tmp_path, read_only=True) as store:
        (pair,) = store.pairs()
    assert pair.lineage.votes == {"person": {"verdict": "good"}}


def test_nodes_before_the_question_are_not_run_again(tmp_path: Path) -> None:
    """Their calls are not in the ledger any more, and still are not made again."""
    build(tmp_path, num_samples=1)
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    with connection:
        deleted = connection.execute("DELETE FROM ledger WHERE node = 'caption'").rowcount
    connection.close()
    assert deleted == 1
    reply(tmp_path, "s0", "good")
    policy = ScriptedModel()
    build(tmp_path, policy, num_samples=1)
    assert [call.prompt.partition(":")[0] for call in policy.calls] == ["spoil"]


def test_the_pair_costs_what_it_costs_without_the_stop(tmp_path: Path) -> None:
    """The asking node runs twice, its call is paid for and counted once."""
    build(tmp_path, num_samples=1)
    reply(tmp_path, "s0", "good")
    build(tmp_path, num_samples=1)
    with RunStore(tmp_path, read_only=True) as store:
        (pair,) = store.pairs()
        assert store.totals().num_calls == 3
        assert pair.lineage.num_tokens == store.totals().num_tokens > 0


def test_several_questions_in_one_walk(tmp_path: Path) -> None:
    build(tmp_path, config=TWICE)
    reply(tmp_path, "s0", "good")
    reply(tmp_path, "s1", "bad")
    build(tmp_path, config=TWICE)
    assert asked(tmp_path)["s0"] == {"question": "why good?"}
    assert asked(tmp_path)["s1"] == {"question": "why bad?"}
    assert "caption" in asked(tmp_path)["s2"]
    reply(tmp_path, "s0", "it is short")
    reply(tmp_path, "s1", None)
    funnel = build(tmp_path, config=TWICE)
    assert (funnel.num_kept, funnel.num_dropped, funnel.num_waiting) == (1, 1, 1)
    with RunStore(tmp_path, read_only=True) as store:
        (pair,) = store.pairs()
    assert pair.lineage.votes["person"] == {"verdict": "good", "reason": "it is short"}


def test_finished_samples_leave_no_checkpoint(tmp_path: Path) -> None:
    build(tmp_path, config=TWICE)
    assert len(rows(tmp_path, "SELECT walk FROM questions")) == 3
    for sample_id in ("s0", "s1"):
        reply(tmp_path, sample_id, "bad")
    build(tmp_path, config=TWICE)
    assert len(rows(tmp_path, "SELECT walk FROM questions")) == 3
    for sample_id in ("s0", "s1"):
        reply(tmp_path, sample_id, "no reason")
    build(tmp_path, config=TWICE)
    assert rows(tmp_path, "SELECT sample_id FROM questions") == [("s2",)]


def test_a_second_answer_replaces_the_first_and_both_stay_on_record(tmp_path: Path) -> None:
    build(tmp_path, num_samples=1)
    reply(tmp_path, "s0", "bad", by="ann")
    reply(tmp_path, "s0", "good", by="bob")
    with RunStore(tmp_path, read_only=True) as store:
        (one,) = waiting(store)
        assert one.answer is not None
        assert (one.answer.value, one.answer.by) == ("good", "bob")
    assert build(tmp_path, num_samples=1).num_kept == 1
    with RunStore(tmp_path, read_only=True) as store:
        given = [(one.sample_id, one.value, one.by) for one in answers_given(store)]
    assert given == [("s0", "bad", "ann"), ("s0", "good", "bob")]


def test_an_answer_to_a_sample_that_does_not_wait_is_refused(tmp_path: Path) -> None:
    build(tmp_path)
    reply(tmp_path, "s1", "good")
    build(tmp_path)
    with pytest.raises(ConfigError, match=r"'s9' does not wait .* not known to have asked; "):
        reply(tmp_path, "s9", "good")
    with pytest.raises(ConfigError, match=r"'s1' does not wait .* it is kept; .* 's0', 's2'$"):
        reply(tmp_path, "s1", "good")
    with pytest.raises(ConfigError, match="the answer to 's0' is no JSON value"):
        reply(tmp_path, "s0", {1, 2})
    with pytest.raises(ConfigError, match="`by` is empty"):
        reply(tmp_path, "s0", "good", by=" ")
    assert len(rows(tmp_path, "SELECT * FROM person_answers")) == 1


def test_a_run_that_asks_nobody_has_no_questions(tmp_path: Path) -> None:
    manifest = Manifest(agent="mmalign.testing.agents:build_graph")
    assert build(tmp_path, graph=build_graph(), manifest=manifest).num_waiting == 0
    with RunStore(tmp_path, read_only=True) as store:
        assert waiting(store) == []
        assert answers_given(store) == []
    tables = rows(tmp_path, "SELECT name FROM sqlite_master WHERE name IN ('questions', 'writes')")
    assert tables == []
    with pytest.raises(ConfigError, match="does not wait for a person, it is kept"):
        reply(tmp_path, "s1", "good")


def test_a_sample_that_fails_after_its_answer_is_not_asked_again(tmp_path: Path) -> None:
    build(tmp_path, num_samples=1)
    reply(tmp_path, "s0", "good")
    broken = FailingModel(errors=[ModelUnavailableError("down")], forever=True)
    assert build(tmp_path, broken, num_samples=1).num_failed == 1
    assert asked(tmp_path) == {}
    retry = EngineConfig(retry_failed=True)
    assert build(tmp_path, num_samples=1, engine=retry).num_kept == 1


def test_a_second_try_goes_on_from_the_answer(tmp_path: Path) -> None:
    build(tmp_path, num_samples=1)
    reply(tmp_path, "s0", "good")
    policy = FailingModel(errors=[ModelUnavailableError("down")])
    assert build(tmp_path, policy, num_samples=1).num_kept == 1
    assert [call.prompt.partition(":")[0] for call in policy.calls] == ["spoil", "spoil"]


def test_a_rebuild_asks_anew(tmp_path: Path) -> None:
    build(tmp_path, num_samples=1)
    reply(tmp_path, "s0", "bad")
    other = MANIFEST.model_copy(update={"seed": 8})
    build(tmp_path, num_samples=1, manifest=other, rebuild=True)
    with RunStore(tmp_path, read_only=True) as store:
        (one,) = waiting(store)
        assert one.answer is None
        assert len(answers_given(store)) == 1


class Declared(Context):
    interrupts: ClassVar[bool] = True


def graph_of(*nodes: Any, context: type[Context] = Declared, **compiled: Any) -> AgentGraph:
    """The nodes side by side, then a drop."""

    async def drop(state: FiveNodeState) -> dict[str, object]:
        reason = f"{state.get('answer')} {state.get('caption')}"
        sample_id = state["sample"].id
        return {"records": [DroppedSample(sample_id=sample_id, reason=reason, node="", message="")]}

    graph = StateGraph(FiveNodeState, context)
    graph.add_node("drop", drop)
    for node in nodes:
        graph.add_node(node.__name__, node)
        graph.add_edge(START, node.__name__)
        graph.add_edge(node.__name__, "drop")
    graph.add_edge("drop", END)
    return graph.compile(**compiled)


def first(state: FiveNodeState) -> dict[str, object]:
    return {"answer": interrupt("first?") + interrupt("again?")}


def second(state: FiveNodeState) -> dict[str, object]:
    return {"caption": interrupt("second?")}


def test_questions_of_nodes_side_by_side_are_asked_one_after_the_other(tmp_path: Path) -> None:
    graph = graph_of(first, second)
    seen = []
    for _ in range(3):
        build(tmp_path, graph=graph, num_samples=1)
        (payload,) = asked(tmp_path).values()
        seen.append(payload)
        reply(tmp_path, "s0", f"[{payload}]")
    assert sorted(seen) == ["again?", "first?", "second?"]
    funnel = build(tmp_path, graph=graph, num_samples=1)
    assert [row.reason for row in funnel.dropped] == ["[first?][again?] [second?]"]


async def repeat(state: FiveNodeState, runtime: Runtime[Context]) -> dict[str, object]:
    """The same request before and after the question."""
    messages = state["sample"].messages
    (one,) = await runtime.context.policy.generate(messages)
    interrupt("go on?")
    (two,) = await runtime.context.policy.generate(messages)
    return {"answer": f"{one.text}/{two.text}"}


def test_equal_requests_around_a_question_stay_two_requests(tmp_path: Path) -> None:
    numbers = iter(range(9))
    policy = ScriptedModel(lambda call, draw: str(next(numbers)))
    build(tmp_path, policy, graph_of(repeat), num_samples=1)
    reply(tmp_path, "s0", True)
    funnel = build(tmp_path, policy, graph_of(repeat), num_samples=1)
    assert [row.reason for row in funnel.dropped] == ["0/1 None"]
    assert len(policy.calls) == 2


def quiet(state: FiveNodeState) -> dict[str, object]:
    return {"answer": "quiet"}


@pytest.mark.parametrize(("stop", "node"), [("before", "quiet"), ("after", "drop")])
def test_a_graph_that_stops_at_a_node_goes_on_with_any_answer(
    tmp_path: Path, stop: str, node: str
) -> None:
    compiled: dict[str, Any] = {f"interrupt_{stop}": ["quiet"]}
    graph = graph_of(quiet, **compiled)
    build(tmp_path, graph=graph, num_samples=1)
    with RunStore(tmp_path, read_only=True) as store:
        (one,) = waiting(store)
    assert (one.node, one.payload) == (node, None)
    reply(tmp_path, "s0", "yes")
    funnel = build(tmp_path, graph=graph, num_samples=1)
    assert [row.reason for row in funnel.dropped] == ["quiet None"]


def test_a_graph_that_asks_without_declaring_it_is_refused(tmp_path: Path) -> None:
    graph = graph_of(second, context=Context)
    message = r"sample 's0' .* called interrupt\(\).* write `interrupts: ClassVar\[bool\] = True`"
    with pytest.raises(AgentError, match=message):
        build(tmp_path, graph=graph, num_samples=1)
    stops = graph_of(quiet, context=Context, interrupt_before=["quiet"])
    with pytest.raises(PluginError, match=r"interrupt_before .* `interrupts: ClassVar"):
        context_class(stops)


def test_a_payload_that_is_no_json_is_refused(tmp_path: Path) -> None:
    def bad(state: FiveNodeState) -> dict[str, object]:
        return {"answer": interrupt({"sample": state["sample"]})}

    with pytest.raises(AgentError, match=r"node 'bad' called interrupt\(\) with what is no JSON"):
        build(tmp_path, graph=graph_of(bad), num_samples=1)
    assert asked(tmp_path) == {}


def test_the_run_says_who_it_waits_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, console=Console())
    assert f"3 samples wait for a person: mmalign view {tmp_path}" in capsys.readouterr().out


def test_a_run_that_waits_goes_on_as_people_answer(tmp_path: Path) -> None:
    async def people() -> None:
        """Answer what is asked, first with a verdict, then with a reason."""
        num_answers = 0
        while num_answers < 6:
            await asyncio.sleep(0.02)
            with RunStore(tmp_path, read_only=True) as store:
                for one in [one for one in waiting(store) if one.answer is None]:
                    answer(store, one.sample_id, "good", by="ann")
                    num_answers += 1

    async def both() -> Funnel:
        engine = QUICK.model_copy(update={"wait_for_answers": True})
        with RunStore(tmp_path) as store:
            funnel, _ = await asyncio.gather(
                run_agent(
                    build_person_graph(),
                    numbered_samples(3),
                    store=store,
                    manifest=MANIFEST,
                    policy=ScriptedModel(),
                    config=TWICE,
                    engine=engine,
                    console=Console(quiet=True),
                ),
                people(),
            )
            return funnel

    open_database_of_a_run_that_asks(tmp_path)
    funnel = asyncio.run(both())
    assert (funnel.num_kept, funnel.num_waiting) == (3, 0)


def open_database_of_a_run_that_asks(folder: Path) -> None:
    """So that the people can look before the run has begun."""
    folder.mkdir(exist_ok=True)
    open_database(folder / "store.sqlite", read_only=False).close()


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["mmalign.testing.killable"])
NUM_SAMPLES = 40


def start(folder: Path) -> ForkServerProcess:
    arguments = [str(folder / "run"), str(folder / "calls"), "--num-samples", str(NUM_SAMPLES)]
    arguments += ["--agent", "build_person_graph", "--wait-s", "0.002"]
    process = FORKS.Process(target=main_of_fork, args=(folder / "errors", arguments), daemon=True)
    process.start()
    return process


def num_calls(folder: Path) -> int:
    file = folder / "calls"
    return len(file.read_text().splitlines()) if file.exists() else 0


def kill_now_and_then(folder: Path, rng: random.Random, num_kills: int, most: int) -> None:
    """Kill builds at random moments, then let one end."""
    for moment in sorted(rng.randrange(1, most) for _ in range(num_kills)):
        process = start(folder)
        before = num_calls(folder)
        while num_calls(folder) < max(moment, before + 1) and process.is_alive():
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(timeout=60)
    process = start(folder)
    process.join(timeout=120)
    errors = (folder / "errors").read_text()
    assert (process.exitcode, "Error" in errors) == (0, False), errors


def test_killed_builds_ask_each_question_once_and_lose_no_answer(tmp_path: Path) -> None:
    rng = random.Random(0)
    kill_now_and_then(tmp_path, rng, 2, most=2 * NUM_SAMPLES - 20)
    questions = rows(tmp_path / "run", "SELECT sample_id, id, walk FROM questions ORDER BY id")
    assert len(questions) == NUM_SAMPLES
    for number in range(NUM_SAMPLES):
        reply(tmp_path / "run", f"s{number}", "good" if number % 4 else "bad")
    kill_now_and_then(tmp_path, rng, 2, most=num_calls(tmp_path) + NUM_SAMPLES // 2)
    assert rows(tmp_path / "run", "SELECT * FROM questions") == []
    numbers = rows(tmp_path / "run", "SELECT sample_id, question FROM person_answers")
    assert sorted(numbers) == sorted((sample_id, number) for sample_id, number, _ in questions)

    with RunStore(tmp_path / "run", read_only=True) as store:
        pairs = list(store.pairs())
        assert [pair.sample_id for pair in pairs] == [
            f"s{number}" for number in range(NUM_SAMPLES) if number % 4
        ]
        assert {pair.lineage.votes["person"]["verdict"] for pair in pairs} == {"good"}
        assert store.num_committed == NUM_SAMPLES
    calls = Counter((tmp_path / "calls").read_text().splitlines())
    assert len(calls) == 2 * NUM_SAMPLES + len(pairs)
    assert calls.total() - len(calls) <= 4 * 8, "more than was in flight"
