"""Rollouts: what a policy does with its tools, token by token."""

from mmalign.engine.rollouts.config import RolloutConfig, RolloutFormat, ToolConfig
from mmalign.engine.rollouts.run import roll_out

__all__ = ["RolloutConfig", "RolloutFormat", "ToolConfig", "roll_out"]
