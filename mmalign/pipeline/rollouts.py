"""The rollouts and rewards that a recipe asks for."""

from mmalign.engine.rollouts import load_tools
from mmalign.pipeline.config import RunConfig
from mmalign.rewards.config import load_rewards
from mmalign.sandbox import Sandbox
from mmalign.training.rollout_task import RolloutTask

__all__ = ["rollout_task"]


def rollout_task(config: RunConfig, sandbox: Sandbox) -> RolloutTask | None:
    """Both as a trainer takes them; None where the recipe has no rollouts.

    Args:
        config: The recipe.
        sandbox: Where tools run what the policy wrote; whoever opened it closes it.

    Raises:
        ConfigError, PluginError: A tool or a reward is not there, or its settings do not fit.
    """
    if config.rollouts is None:
        return None
    return RolloutTask(
        config=config.rollouts,
        rewards=load_rewards(config.rewards),
        seed=config.seed,
        tools=load_tools(config.rollouts.tools, sandbox=sandbox),
        manifest={
            "seed": config.seed,
            "config": config.rollouts.model_dump(mode="json"),
            "rewards": [reward.model_dump(mode="json") for reward in config.rewards],
        },
    )
