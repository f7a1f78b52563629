"""The agent that a recipe names, for a build and for a trainer that builds its own pairs."""

from mmalign.config import Config, import_plugin, validate
from mmalign.engine import AgentGraph, config_class
from mmalign.errors import ConfigError
from mmalign.pipeline.config import Plugin, RunConfig
from mmalign.sandbox import Sandbox
from mmalign.training.online import OnlineAgent

__all__ = ["agent_settings", "load_agent", "online_agent"]


def load_agent(plugin: Plugin) -> AgentGraph:
    """The compiled graph that a recipe names."""
    graph: AgentGraph = import_plugin(plugin.path)()
    return graph


def agent_settings(graph: AgentGraph, plugin: Plugin) -> Config:
    """The agent's settings, validated by the class that its context names."""
    return validate(config_class(graph), plugin.arguments, "agent")


def online_agent(config: RunConfig, sandbox: Sandbox) -> OnlineAgent:
    """The recipe's agent, for a trainer that builds its own pairs.

    Args:
        config: The recipe.
        sandbox: Where it runs code; whoever opened it closes it.

    Raises:
        ConfigError: There is none.
    """
    if config.agent is None:
        raise ConfigError("trainer.online: true wants an agent that builds pairs; name one")
    graph = load_agent(config.agent)
    settings = agent_settings(graph, config.agent)
    return OnlineAgent(graph, settings, config.agent.path, config.seed, sandbox)
