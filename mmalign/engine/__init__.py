"""Run an agent over samples: store, ledger, budget, resume; one executor interface."""

from mmalign.engine.agent import AgentGraph, config_class, context_class, walk
from mmalign.engine.budget import BudgetConfig, Price
from mmalign.engine.context import Context, draw_seed
from mmalign.engine.executor import Executor, LocalExecutor
from mmalign.engine.export import export
from mmalign.engine.funnel import Funnel, FunnelRow, funnel_of
from mmalign.engine.manifest import Manifest, samples_fingerprint
from mmalign.engine.runner import EngineConfig, run_agent, run_agent_blocking
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
    "Price",
    "RunStore",
    "config_class",
    "context_class",
    "draw_seed",
    "export",
    "funnel_of",
    "run_agent",
    "run_agent_blocking",
    "samples_fingerprint",
    "walk",
]
