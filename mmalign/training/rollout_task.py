"""What a recipe says about rollouts besides the objective, and which settings do not fit."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmalign.engine.rollouts import RolloutConfig, RolloutTool
from mmalign.errors import ConfigError
from mmalign.objectives import RolloutSettings
from mmalign.objectives.rollouts import GroupSettings
from mmalign.records import Sample
from mmalign.rewards.scoring import WeightedReward
from mmalign.training.config import TrainerConfig

__all__ = ["RolloutTask", "require_fitting", "require_rollouts"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RolloutTask:
    """What a recipe says about rollouts besides the objective."""

    config: RolloutConfig
    rewards: tuple[WeightedReward, ...]
    seed: int
    tools: tuple[RolloutTool, ...] = ()
    """What the policy may call."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """All of this as it stands in the recipe, for the check on resuming."""


def require_rollouts(
    task: RolloutTask | None, objective: str, records: Sequence[Any], trainer: TrainerConfig
) -> None:
    """Refuse settings under which nothing can be rolled out.

    Raises:
        ConfigError: No rollouts section, records that are no samples, an agent that builds pairs,
            or a stored reference.
    """
    why = None
    if task is None:
        why = "the recipe has no rollouts; say how under rollouts, and what they earn under rewards"
    elif not all(isinstance(record, Sample) for record in records):
        why = "it was given pairs or responses; give it the samples of a data set"
    elif trainer.online:
        why = "trainer.online: true builds pairs with an agent; leave it out"
    elif trainer.reference_logps == "store":
        why = (
            "trainer.reference_logps: store holds numbers of records that exist before training; "
            "set it to compute"
        )
    if why is not None:
        raise ConfigError(f"objective {objective!r} learns from rollouts of samples, but {why}")


def require_fitting(
    settings: RolloutSettings, task: RolloutTask, trainer: TrainerConfig, objective: str
) -> None:
    """Refuse settings under which a run could not be resumed, or its ratios would be wrong.

    Raises:
        ConfigError: No reward, greedy rollouts, groups of one, or a generation that a checkpoint
            would cut.
    """
    if not task.rewards:
        raise ConfigError("the recipe has no rewards; name one or more under rewards")
    steps = settings.steps_per_generation
    if trainer.save_steps % steps:
        raise ConfigError(
            f"trainer.save_steps is {trainer.save_steps}, but a generation of rollouts serves "
            f"{steps} steps (num_iterations x num_mini_batches) and a checkpoint must not cut it; "
            f"set it to a multiple of {steps}"
        )
    config = task.config
    if isinstance(settings, GroupSettings) and config.num_generations < 2:
        raise ConfigError(
            f"rollouts.num_generations is {config.num_generations}; {objective} compares the "
            f"rollouts of a prompt: take two or more, or the objective ppo"
        )
    if config.temperature == 0:
        raise ConfigError(
            "rollouts.temperature is 0: all rollouts of a prompt would be equal; set it to 1"
        )
    if config.temperature != 1 or config.top_p < 1:
        _log.warning(
            "rollouts are sampled at temperature %g and top_p %g, but weighed by the policy's own "
            "distribution; the gradient is that of another policy",
            config.temperature,
            config.top_p,
        )
