"""The rewards of a recipe."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from mmalign.config import Config, import_plugin
from mmalign.errors import ConfigError
from mmalign.rewards.contract import OnInvalid, RewardFunction, Sees, declare, setting_names
from mmalign.rewards.episodes import ROLLOUT_REWARDS
from mmalign.rewards.scoring import WeightedReward

_ELSEWHERE = {"passes_tests": "mmalign.evaluation.program_reward:passes_tests"}
"""Rewards that need more of mmalign than completions and gold data."""

__all__ = ["RewardConfig", "load_reward", "load_rewards"]


class RewardConfig(Config):
    """One reward; its function's own settings stand beside these."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    path: str | None = None
    """`package.module:function`, of mmalign's form, TRL's or verl's."""
    name: str | None = None
    """One of mmalign's own rewards; beside a path, what metrics call it."""
    weight: float = Field(default=1.0, allow_inf_nan=False)
    """In the sum that a rollout earns."""
    low: float | None = None
    """The least that it gives, where the function does not declare it."""
    high: float | None = None
    """The most that it gives."""
    sees: Sees | None = None
    """all: also what tools wrote."""
    time_limit_s: float | None = Field(default=None, gt=0)
    """For one rollout."""
    on_invalid: OnInvalid | None = None
    """What happens where it gives no number: skip, zero or error."""

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.path is None and self.name is None:
            raise ValueError("names neither a path nor a name; write one of them")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """What the function is called with besides the rollout."""
        return dict(self.model_extra or {})


def load_rewards(configs: Sequence[RewardConfig]) -> tuple[WeightedReward, ...]:
    """The rewards that a recipe names.

    Raises:
        ConfigError: Two of one name, an unknown name or setting, or no declared range.
        PluginError: A path leads to no function.
    """
    rewards = tuple(map(load_reward, configs))
    names = [reward.name for reward in rewards]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"rewards: two are called {', '.join(sorted(doubled))}; give one of them another name"
        )
    return rewards


def load_reward(config: RewardConfig) -> WeightedReward:
    """The reward that one item of the list names.

    Raises:
        ConfigError, PluginError: As `load_rewards`.
    """
    declared = config.model_dump(include={"low", "high", "sees", "time_limit_s", "on_invalid"})
    function = declare(_function(config), config.path or str(config.name), **declared)
    known = setting_names(function)
    for name in config.settings:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"rewards: {function.name} has no setting {name!r}; {hint}")
    return WeightedReward(
        name=config.name or function.name,
        function=function,
        weight=config.weight,
        settings=config.settings,
    )


def _function(config: RewardConfig) -> RewardFunction | Any:
    path = config.path or _ELSEWHERE.get(config.name or "")
    if path is not None:
        return import_plugin(path)
    if config.name is None or config.name not in ROLLOUT_REWARDS:
        near = get_close_matches(str(config.name), ROLLOUT_REWARDS, n=1)
        known = ", ".join((*ROLLOUT_REWARDS, *_ELSEWHERE))
        hint = f"did you mean {near[0]!r}?" if near else f"known: {known}"
        raise ConfigError(f"rewards: none is called {config.name!r}; {hint}")
    return ROLLOUT_REWARDS[config.name]
