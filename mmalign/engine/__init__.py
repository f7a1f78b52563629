"""Run an agent over samples: store, ledger, budget, resume; one executor interface."""

from mmalign.engine.agent import AgentGraph, config_class, context_class, walk
from mmalign.engine.apart import run_apart
from mmalign.engine.budget import BudgetConfig, Price
from mmalign.engine.config import EngineConfig
from mmalign.engine.context import Context, draw_seed
from mmalign.engine.executor import Executor, LocalExecutor
from mmalign.engine.export import agent_warnings, export
from mmalign.engine.failures import failed_sample
from mmalign.engine.funnel import Funnel, FunnelRow, funnel_of
from mmalign.engine.interrupts import (
    PersonAnswer,
    WaitingSample,
    answer,
    answers_given,
    waiting,
)
from mmalign.engine.manifest import Manifest, samples_fingerprint
from mmalign.engine.runner import run_agent, run_agent_blocking
from mmalign.engine.store import RunStore

__all__ = [
    "AgentGraph",
    "BudgetConfig",
    "Context",
    "EngineConfig",
    "Executor",
    "Funnel",
    "FunnelRow",
    "LocalExecutor",
    "Manifest",
    "PersonAnswer",
    "Price",
    "RunStore",
    "WaitingSample",
    "agent_warnings",
    "answer",
    "answers_given",
    "config_class",
    "context_class",
    "draw_seed",
    "export",
    "failed_sample",
    "funnel_of",
    "run_agent",
    "run_agent_blocking",
    "run_apart",
    "samples_fingerprint",
    "waiting",
    "walk",
]
