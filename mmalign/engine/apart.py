"""Coroutines of agents, run to their end from code that is not asynchronous."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_apart"]

ResultT = TypeVar("ResultT")


def run_apart(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine as if no graph were above it.

    A stage is a node of the run's graph; LangGraph would hand that graph's checkpointer on to
    every agent that is run inside.
    """
    return contextvars.Context().run(asyncio.run, work)
