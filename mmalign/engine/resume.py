"""Walks through graphs that stop for a person, and go on where they stopped.

A walk's checkpoints are kept in memory. When it stops, the question, the checkpoints and what the
walk has spent become one row of the store, and each further attempt starts from that row: a walk
that is killed or fails between two questions leaves nothing half done. As a training checkpoint,
a row is a pickle, and is read only to go on with the run.

Left out on purpose: of a question inside a nested graph, the calls that the nested graph made
before it count anew.
"""

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config
from langgraph.types import Command, StateSnapshot

from mmalign.engine.agent import AgentGraph, AgentRecord, checked_records, walk_settings
from mmalign.engine.context import Context
from mmalign.engine.interrupts import TABLES
from mmalign.engine.ledger import SamplePass
from mmalign.engine.store import RunStore, StoredAnswer
from mmalign.records import Sample

__all__ = ["InterruptiblePass", "InterruptibleWalks"]

INSERT_QUESTION = (
    "INSERT OR REPLACE INTO questions "
    "(run_id, position, sample_id, sample, node, payload, asked_at, walk) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
TAKE_ANSWER = (
    "UPDATE questions SET taken = (SELECT max(id) FROM person_answers "
    "WHERE question = questions.id) WHERE sample_id = ? AND taken IS NULL"
)
DELETE_QUESTION = "DELETE FROM questions WHERE sample_id = ?"


class _Request(NamedTuple):
    task: str
    digest: bytes


class _Spent(NamedTuple):
    task: str
    num_tokens: int
    cost: float


@dataclass
class InterruptiblePass(SamplePass):
    """A walk that knows which task of the graph made which call.

    A task that asks a person runs again from its beginning; its calls then count again.
    """

    requests: list[_Request] = field(default_factory=list)
    spent: list[_Spent] = field(default_factory=list)

    def next_attempt(self, digest: bytes) -> int:
        """How often the request was made before, in this walk."""
        self.requests.append(_Request(_current_task(), digest))
        return super().next_attempt(digest)

    def add(self, answers: Sequence[StoredAnswer]) -> None:
        """Count answers towards the sample and its task."""
        task = _current_task()
        self.spent += [_Spent(task, answer.num_tokens, answer.cost) for answer in answers]
        super().add(answers)

    def restore(self, requests: Sequence[_Request], spent: Sequence[_Spent]) -> None:
        """Count what earlier parts of the walk have asked and spent."""
        self.requests += requests
        self.attempts.update(request.digest for request in requests)
        self.spent += spent
        self.num_tokens += sum(one.num_tokens for one in spent)
        self.costs += [one.cost for one in spent]


class _Stopped(NamedTuple):
    """A walk that waits, as it lies in the store."""

    interrupt_id: str | None
    """None at a stop before or after a node."""
    checkpoints: list[CheckpointTuple]
    """The newest first."""
    requests: list[_Request]
    spent: list[_Spent]


class _Pickled:
    """Keeps any Python value of a state as it is."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "pickle", pickle.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return pickle.loads(data[1])  # noqa: S301  # this run's own folder, as a training checkpoint


class InterruptibleWalks:
    """Walks of one run's samples through a graph that may ask people.

    Args:
        graph: Its context declares interrupts.
        store: Claimed by the run; questions of other runs that it held are deleted.
        run_id: Of the run's manifest.
    """

    def __init__(self, graph: AgentGraph, store: RunStore, *, run_id: str) -> None:
        self._graph = graph
        self._store = store
        self._run_id = run_id
        for statement in TABLES:
            store.execute(statement)
        store.execute("DELETE FROM questions WHERE run_id != ?", (run_id,))
        rows = store.read("SELECT sample_id FROM waiting WHERE answer IS NULL")
        self.unanswered = {sample_id for (sample_id,) in rows}
        """Samples that wait, as far as this start of the run knows."""

    @property
    def num_waiting(self) -> int:
        """Samples that this start cannot go on with."""
        return len(self.unanswered)

    async def walk(
        self,
        position: int,
        sample: Sample,
        context: Context,
        sample_pass: InterruptiblePass,
        *,
        recursion_limit: int,
    ) -> tuple[AgentRecord, ...] | None:
        """The records of one sample; None where it waits for a person.

        Raises:
            TypeError: The graph asks with something that is no JSON, or writes what is no record.
            Exception: Whatever a node raises, with a note that names the node.
        """
        config = walk_settings(sample, recursion_limit)
        config["configurable"] = {"thread_id": sample.id}
        saver = InMemorySaver(serde=_Pickled())
        graph = self._graph.copy(update={"checkpointer": saver})
        given: Any = await self._resume(saver, sample, sample_pass)
        first = {"sample": sample} if given is _FROM_THE_START else given
        await graph.ainvoke(first, config, context=context, output_keys="records")
        state = await graph.aget_state(config)
        if not state.next:
            return checked_records(sample, state.values.get("records"))
        if sample_pass.refused is None:
            await self._ask(position, sample, sample_pass, state, saver)
        return None

    def forget(self, sample_id: str) -> None:
        """Delete the question of a sample that is done, in the transaction of its outcome."""
        self._store.write(DELETE_QUESTION, ((sample_id,),))

    def answered(self) -> list[tuple[int, Sample]]:
        """Samples, with their positions, that were answered since they were found waiting."""
        rows = self._store.read(
            "SELECT position, sample FROM waiting WHERE answer IS NOT NULL ORDER BY position"
        )
        found = [(position, Sample.model_validate_json(text)) for position, text in rows]
        return [(position, sample) for position, sample in found if sample.id in self.unanswered]

    async def _resume(
        self, saver: InMemorySaver, sample: Sample, sample_pass: InterruptiblePass
    ) -> object:
        """What to start the graph with, after what was walked before is laid into the saver."""
        if not self._store.read("SELECT 1 FROM questions WHERE sample_id = ?", (sample.id,)):
            return _FROM_THE_START
        await self._store.write(TAKE_ANSWER, ((sample.id,),))
        self.unanswered.discard(sample.id)
        ((walk, value),) = self._store.read(
            "SELECT q.walk, a.value FROM questions q JOIN person_answers a ON a.id = q.taken "
            "WHERE q.sample_id = ?",
            (sample.id,),
        )
        stopped = _Stopped(*pickle.loads(walk))  # noqa: S301  # see `_Pickled`
        sample_pass.restore(stopped.requests, stopped.spent)
        for found in reversed(stopped.checkpoints):
            await _put(saver, found)
        if stopped.interrupt_id is None:
            return None
        return Command(resume={stopped.interrupt_id: json.loads(value)})

    async def _ask(
        self,
        position: int,
        sample: Sample,
        sample_pass: InterruptiblePass,
        state: StateSnapshot,
        saver: InMemorySaver,
    ) -> None:
        """Put the first open question of a walk into the store; durable when it returns."""
        asking = [task for task in state.tasks if task.interrupts]
        node = asking[0].name if asking else ", ".join(state.next)
        payload = asking[0].interrupts[0].value if asking else None
        try:
            text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"node {node!r} called interrupt() with what is no JSON value ({error}); people "
                f"are shown it in another process: pass text, numbers, lists and dictionaries"
            ) from error
        again = {f"{task.name}:{task.id}" for task in asking}
        stopped = _Stopped(
            interrupt_id=asking[0].interrupts[0].id if asking else None,
            checkpoints=[one async for one in saver.alist(None)],
            requests=[one for one in sample_pass.requests if one.task not in again],
            spent=[one for one in sample_pass.spent if one.task not in again],
        )
        row = (
            self._run_id,
            position,
            sample.id,
            sample.model_dump_json(),
            node,
            text,
            datetime.now(UTC).isoformat(timespec="seconds"),
            pickle.dumps(tuple(stopped)),
        )
        await self._store.write(INSERT_QUESTION, (row,))
        self.unanswered.add(sample.id)


_FROM_THE_START = object()


async def _put(saver: InMemorySaver, found: CheckpointTuple) -> None:
    place = found.config["configurable"]
    before: RunnableConfig = found.parent_config or {
        "configurable": {
            "thread_id": place["thread_id"],
            "checkpoint_ns": place["checkpoint_ns"],
        }
    }
    versions = found.checkpoint["channel_versions"]
    config = await saver.aput(before, found.checkpoint, found.metadata, versions)
    for task, channel, value in found.pending_writes or ():
        await saver.aput_writes(config, [(channel, value)], task)


def _current_task() -> str:
    """The outermost graph's task, `node:id`; empty outside a graph."""
    try:
        metadata = get_config().get("metadata", {})
    except RuntimeError:
        return ""
    return str(metadata.get("langgraph_checkpoint_ns", "")).partition("|")[0]
