"""Where samples are worked on: today in this process, tomorrow on a cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

__all__ = ["Executor", "LocalExecutor"]

Task = TypeVar("Task")


class Executor(Protocol):
    """Runs one coroutine per task, a bounded number at a time."""

    async def run(self, work: Callable[[Task], Awaitable[None]], tasks: Iterator[Task]) -> None:
        """Take tasks until the iterator ends, and wait for those taken.

        Args:
            work: Handles its own failures; what it raises is a defect and ends the run.
            tasks: Read one by one, only when a place is free; it ends early to stop the run.
        """
        ...


@dataclass(frozen=True)
class LocalExecutor:
    """Coroutines of this process."""

    max_concurrency: int

    async def run(self, work: Callable[[Task], Awaitable[None]], tasks: Iterator[Task]) -> None:
        """Take tasks until the iterator ends, and wait for those taken."""

        async def work_on() -> None:
            for task in tasks:
                await work(task)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.max_concurrency):
                group.create_task(work_on())
