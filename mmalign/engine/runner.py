"""Runs an agent over samples: each sample committed once, each answer paid once."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rich.console import Console

from mmalign import __version__
from mmalign.config import Config
from mmalign.engine.agent import AgentGraph, AgentRecord, context_class, failed_node, walk
from mmalign.engine.budget import Budget, BudgetConfig, Price, Spending
from mmalign.engine.config import EngineConfig
from mmalign.engine.context import Context
from mmalign.engine.executor import Executor, LocalExecutor
from mmalign.engine.failures import failed_sample, is_transient
from mmalign.engine.funnel import Funnel, funnel_of
from mmalign.engine.judges import JudgeCount
from mmalign.engine.ledger import Ledger, RunStopped, SamplePass
from mmalign.engine.ledgered_model import LedgeredModel
from mmalign.engine.manifest import Manifest
from mmalign.engine.progress import Counts, report_progress
from mmalign.engine.resume import InterruptiblePass, InterruptibleWalks
from mmalign.engine.signals import stop_signals
from mmalign.engine.store import Outcome, RunStore
from mmalign.errors import (
    AgentError,
    BudgetReachedError,
    FailedRatioError,
    MmalignError,
    RecordError,
    RunInterruptedError,
    StoreError,
)
from mmalign.models.protocol import ChatModel
from mmalign.records import DroppedSample, PreferencePair, Sample
from mmalign.sandbox import Sandbox

__all__ = ["run_agent", "run_agent_blocking"]

log = logging.getLogger(__name__)

POLL_S = 1.0


async def run_agent(
    graph: AgentGraph,
    samples: Iterable[Sample],
    *,
    store: RunStore,
    manifest: Manifest,
    policy: ChatModel,
    models: Mapping[str, ChatModel] | None = None,
    sandbox: Sandbox | None = None,
    config: Config | None = None,
    epoch: int = 0,
    engine: EngineConfig | None = None,
    budget: BudgetConfig | None = None,
    executor: Executor | None = None,
    num_samples: int | None = None,
    rebuild: bool = False,
    console: Console | None = None,
) -> Funnel:
    """Build the records of all samples that the store does not have yet.

    The same call again resumes: committed samples are skipped, answered requests are read from
    the ledger. Samples are read one by one, as places get free.

    Args:
        graph: Compiled; its context derives from `Context`, its state has `sample`, `records`.
        samples: In a fixed order.
        store: The run folder's; claimed for this manifest.
        manifest: What the run is: agent, settings, data set, seed.
        policy: The model that is to be aligned.
        models: Others, by role.
        sandbox: For an agent that runs code.
        config: The agent's settings; by default those of its context class.
        epoch: Enters the seeds of the agent's draws.
        engine: Concurrency, retries, limits.
        budget: Tokens and money, over all starts of this run.
        executor: By default this process.
        num_samples: For progress, where `samples` has no length.
        rebuild: Replace another run's records in this folder, keep its paid answers.
        console: Where progress is shown; by default the standard error output.

    Returns:
        The funnel of the whole run, earlier starts included.

    Raises:
        StoreError: The folder is full, read-only or another run's.
        BudgetReachedError: The budget is used up; the run can be resumed with a larger one.
        RunInterruptedError: Ctrl-C or SIGTERM; the run can be resumed.
        AgentError: A node raised what is no failure of its sample.
        FailedRatioError: Too many samples failed, or too many replies of the judge were invalid.
        RecordError: Two samples have one id.
    """
    engine = engine or EngineConfig()
    store.claim(manifest, rebuild=rebuild)
    if engine.retry_failed:
        store.forget_failed()
    if num_samples is None and isinstance(samples, Sized):
        num_samples = len(samples)
    totals, context = store.totals(), context_class(graph)
    purse = Budget(budget or BudgetConfig(), Spending(totals.num_tokens, totals.cost))
    roles = {"policy": policy, **(models or {})}
    run = _Run(
        graph=graph,
        samples=samples,
        store=store,
        manifest=manifest,
        ledger=Ledger(store, purse),
        context=context,
        models=roles,
        prices={role: purse.price(role, model.name) for role, model in roles.items()},
        settings={
            "epoch": epoch,
            "code_sandbox": sandbox,
            **({} if config is None else {"config": config}),
        },
        engine=engine,
        committed=store.committed(),
        counts=Counts(num_samples=num_samples, num_before=store.num_committed),
        interrupts=(
            InterruptibleWalks(graph, store, run_id=manifest.run_id) if context.interrupts else None
        ),
    )
    console = console or Console(stderr=True)
    await run.to_the_end(executor or LocalExecutor(engine.max_concurrency), console)
    if run.interrupts is not None and (num_waiting := run.interrupts.num_waiting):
        where = f"mmalign view {store.folder}"
        console.print(f"{num_waiting:,} samples wait for a person: {where}", soft_wrap=True)
    return funnel_of(store)


def run_agent_blocking(*args: Any, **kwargs: Any) -> Funnel:
    """`run_agent` for callers without an event loop; the same arguments."""
    return asyncio.run(run_agent(*args, **kwargs))


class _Task(NamedTuple):
    position: int
    sample: Sample


@dataclass
class _Run:
    graph: AgentGraph
    samples: Iterable[Sample]
    store: RunStore
    manifest: Manifest
    ledger: Ledger
    context: type[Context]
    models: Mapping[str, ChatModel]
    prices: Mapping[str, Price]
    settings: Mapping[str, Any]
    engine: EngineConfig
    committed: dict[str, int]
    counts: Counts
    interrupts: InterruptibleWalks | None
    """None for agents that ask nobody."""
    judge: JudgeCount = field(default_factory=JudgeCount)
    reason: Exception | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def to_the_end(self, executor: Executor, console: Console) -> None:
        """Work until samples or patience end; raises what stopped the run."""
        progress = asyncio.create_task(report_progress(self.counts, console))
        with stop_signals(self.interrupt):
            work = asyncio.create_task(self.work_on_all(executor))
            stopping = asyncio.create_task(self.stopping.wait())
            try:
                await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    progress.cancel()  # gives the terminal back before a second Ctrl-C takes it
                    await asyncio.wait({work}, timeout=self.patience_s)
                if work.done():
                    work.result()
            finally:
                self.ledger.stopped = True
                for task in (work, stopping, progress):
                    task.cancel()
                await asyncio.gather(work, stopping, progress, return_exceptions=True)
                await self.store.drain()
        if self.reason is not None:
            raise self.reason

    async def work_on_all(self, executor: Executor) -> None:
        """All samples; then, where the run waits for people, those that they answer."""
        await executor.run(self.work, self.tasks())
        if self.interrupts is None or not self.engine.wait_for_answers:
            return
        while self.interrupts.num_waiting and self.reason is None:
            answered = [_Task(*found) for found in self.interrupts.answered()]
            await executor.run(self.work, iter(answered))
            if not answered:
                await asyncio.sleep(POLL_S)

    @property
    def patience_s(self) -> float | None:
        """How long calls under way may take; a budget that is reached is no hurry."""
        return None if isinstance(self.reason, BudgetReachedError) else self.engine.stop_grace_s

    def stop(self, reason: Exception) -> None:
        """Take no new sample, start no new call; the first reason is the one that is told."""
        if self.reason is None:
            self.reason = reason
        self.ledger.stopped = True
        self.stopping.set()

    def interrupt(self) -> None:
        """End at the user's wish."""
        self.stop(RunInterruptedError(f"stopped on request; {self.state_of_run()}"))

    def state_of_run(self) -> str:
        """What is done and how to go on."""
        num_committed = self.counts.num_before + self.counts.num_done
        total = self.counts.num_samples
        left = "" if total is None else f", {total - num_committed:,} are left"
        return (
            f"{num_committed:,} samples are committed{left}. Run the same command again to resume "
            f"{self.store.folder}; answered calls are not paid again"
        )

    def tasks(self) -> Iterator[_Task]:
        """Samples that are neither committed nor waiting, until the run is stopped."""
        seen: dict[str, int] = {}
        waiting = frozenset() if self.interrupts is None else frozenset(self.interrupts.unanswered)
        self.counts.num_waiting = len(waiting)
        try:
            for position, sample in enumerate(self.samples):
                if self.reason is not None:
                    return
                self.require_new(sample, position, seen)
                if sample.id not in self.committed and sample.id not in waiting:
                    yield _Task(position, sample)
        except MmalignError as error:
            self.stop(error)

    def require_new(self, sample: Sample, position: int, seen: dict[str, int]) -> None:
        """Refuse what would be committed twice or in a wrong place."""
        if not sample.id.strip():
            raise RecordError(
                f"sample at position {position}: its id is empty; give each one an id"
            )
        first = seen.setdefault(sample.id, position)
        if first != position:
            raise RecordError(
                f"samples at positions {first} and {position} have one id, {sample.id!r}; ids "
                f"must be unique in a data set. Mend the reader or drop one of them"
            )
        before = self.committed.get(sample.id, position)
        if before != position:
            raise StoreError(
                f"{self.store.folder}: sample {sample.id!r} was committed from position {before} "
                f"and now stands at {position}; the data set changed. Give another folder"
            )

    async def work(self, task: _Task) -> None:
        """Bring one sample from its messages to its commit, or stop the run."""
        try:
            outcome = await self.outcome_of(task)
            if outcome is None:
                return
            committed = self.store.commit_outcome(outcome)
            if self.interrupts is not None and outcome.status != "failed":
                self.interrupts.forget(outcome.sample_id)  # a failed one may be tried again
            await committed
        except (AgentError, StoreError) as error:
            self.stop(error)
        except BudgetReachedError as error:
            self.stop(BudgetReachedError(f"{error}. {self.state_of_run()}"))
        except RunStopped:
            pass
        else:
            self.count(outcome)

    def count(self, outcome: Outcome) -> None:
        """Note a commit, and end the run where too many fail or the judge cannot be relied on."""
        done = self.counts.done
        done[outcome.status] += 1
        self.counts.cost = self.ledger.budget.cost
        self.counts.num_tokens = self.ledger.budget.num_tokens
        ratio = done["failed"] / self.counts.num_done
        if (
            outcome.status == "failed"
            and self.counts.num_done >= self.engine.min_samples_for_ratio
            and ratio > self.engine.max_failed_ratio
        ):
            last = outcome.dropped[0]
            self.stop(
                FailedRatioError(
                    f"{done['failed']} of {self.counts.num_done} samples failed, more than "
                    f"engine.max_failed_ratio {self.engine.max_failed_ratio:g} allows; the last "
                    f"one, {last.sample_id!r}, at node {last.node!r} with {last.reason}: "
                    f"{last.message}. Mend the cause and run again with engine.retry_failed: true"
                )
            )
        unreliable = self.judge.add(
            outcome,
            max_ratio=self.engine.max_judge_invalid_ratio,
            min_samples=self.engine.min_judged_for_ratio,
        )
        if unreliable is not None:
            self.stop(unreliable)

    async def outcome_of(self, task: _Task) -> Outcome | None:
        """What a sample becomes after as many walks as it is allowed; None where it waits."""
        for attempt in range(self.engine.max_attempts):
            sample_pass = (SamplePass if self.interrupts is None else InterruptiblePass)(
                task.sample.id
            )
            try:
                records = await self.walk(task, sample_pass)
            except Exception as error:
                self.raise_if_refused(sample_pass, error)
                dropped = failed_sample(task.sample, error, last_node=sample_pass.last_node)
                if dropped is None:
                    raise self.agent_error(task, error) from error
                records = (dropped,)
                if is_transient(error) and attempt + 1 < self.engine.max_attempts:
                    log.info("sample %s: %s; trying again", task.sample.id, error)
                    await self.pause(self.engine.retry_wait_s * 2**attempt)
                    continue
            self.raise_if_refused(sample_pass, None)
            if self.interrupts is not None:
                self.counts.num_waiting = self.interrupts.num_waiting
            return None if records is None else self.completed(task, records, sample_pass)
        return None

    async def walk(self, task: _Task, sample_pass: SamplePass) -> tuple[AgentRecord, ...] | None:
        """The records of one walk; None where it stopped for a person."""
        context, limit = self.context_of(task.sample, sample_pass), self.engine.recursion_limit
        if self.interrupts is None:
            return await walk(self.graph, task.sample, context, recursion_limit=limit)
        assert isinstance(sample_pass, InterruptiblePass)
        return await self.interrupts.walk(*task, context, sample_pass, recursion_limit=limit)

    def raise_if_refused(self, sample_pass: SamplePass, cause: Exception | None) -> None:
        """A walk that was denied a call has no result, whatever the agent made of it."""
        if sample_pass.refused is not None:
            raise sample_pass.refused from cause
        if isinstance(cause, StoreError):
            raise cause

    async def pause(self, wait_s: float) -> None:
        """Wait before another walk, unless the run is stopped meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), wait_s)
            raise RunStopped("the run ends")

    def context_of(self, sample: Sample, sample_pass: SamplePass) -> Context:
        """The graph's window to the world, with every model behind the ledger."""
        models = {
            role: LedgeredModel(
                model, ledger=self.ledger, price=self.prices[role], sample_pass=sample_pass
            )
            for role, model in self.models.items()
        }
        policy = models.pop("policy")
        return self.context(
            policy=policy,
            models=models,
            sample_id=sample.id,
            seed=self.manifest.seed,
            **self.settings,
        )

    def completed(
        self, task: _Task, records: tuple[AgentRecord, ...], sample_pass: SamplePass
    ) -> Outcome:
        """The records with what only the engine knows of their origin."""
        known = {
            "run_id": self.manifest.run_id,
            "graph": self.manifest.agent,
            "policy": self.models["policy"].name,
            "seed": self.manifest.seed,
            "source": task.sample.metadata.get("dataset") or self.manifest.dataset or None,
        }
        measured = {
            "cost": sample_pass.cost,
            "num_tokens": sample_pass.num_tokens,
            "version": __version__,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        full = []
        for record in records:
            missing = {k: v for k, v in known.items() if getattr(record.lineage, k) is None}
            lineage = record.lineage.model_copy(update={**missing, **measured})
            full.append(record.model_copy(update={"lineage": lineage}))
        return Outcome(
            position=task.position,
            sample_id=task.sample.id,
            pairs=tuple(record for record in full if isinstance(record, PreferencePair)),
            dropped=tuple(record for record in full if isinstance(record, DroppedSample)),
        )

    def agent_error(self, task: _Task, error: Exception) -> AgentError:
        """Names sample, node and agent of an error that is no failure of the sample."""
        node = failed_node(error)
        where = f"node {node!r} of {self.manifest.agent}" if node else self.manifest.agent
        return AgentError(
            f"sample {task.sample.id!r} (position {task.position}): {where} raised "
            f"{type(error).__name__}: {error}. Mend it or its settings; {self.state_of_run()}"
        )
