"""Rollouts: what a policy does with its tools, token by token."""

from mmalign.engine.rollouts.config import RolloutConfig, RolloutFormat, ToolConfig
from mmalign.engine.rollouts.prompts import prompt_messages
from mmalign.engine.rollouts.run import roll_out
from mmalign.engine.rollouts.tools import RolloutTool, invoke_tool, load_tools, tool_schemas

__all__ = [
    "RolloutConfig",
    "RolloutFormat",
    "RolloutTool",
    "ToolConfig",
    "invoke_tool",
    "load_tools",
    "prompt_messages",
    "roll_out",
    "tool_schemas",
]
