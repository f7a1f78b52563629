"""A whole run as one validated recipe."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from mmalign.config import Config, import_plugin, load_yaml, validate
from mmalign.config import apply_overrides as override
from mmalign.engine import BudgetConfig, EngineConfig
from mmalign.engine.rollouts import RolloutConfig
from mmalign.errors import ConfigError
from mmalign.media import FrameSampling
from mmalign.models.load import ModelConfig
from mmalign.models.protocol import Sampling
from mmalign.rewards.config import RewardConfig
from mmalign.sandbox import SandboxConfig
from mmalign.training.config import LoraSettings, TrainerConfig

__all__ = [
    "EvaluationSection",
    "Plugin",
    "RunConfig",
    "SupervisedConfig",
    "call_reader",
    "read_recipe",
    "supervised",
]


class Plugin(Config):
    """A function of a plug-in and its arguments, which stand beside the path."""

    model_config = ConfigDict(frozen=True, extra="allow")

    path: str
    """`package.module:function`."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything but the path."""
        return dict(self.model_extra or {})


class EvaluationSection(Config):
    """What the model is scored on before and after training."""

    dataset: Plugin
    """A reader, as in the recipe."""
    metric: str
    """A name of `mmalign list metrics`."""
    profile: str = "strict"
    """strict, or official: the published script's own rules, faults included."""
    judge: ModelConfig | None = None
    """Who says what the answers are worth, for a metric that asks for it, as ambiguity does."""
    beside: str | None = None
    """A second metric, which scores the answers themselves where the first one asks a judge."""
    sampling: Sampling = Sampling(max_completion_length=32)
    """Greedy unless said otherwise."""
    max_concurrency: int = Field(default=64, gt=0)
    """Questions under way at once."""
    num_samples: int = Field(default=1, gt=0)
    """Answers drawn to each question, for pass_at_k; more than one needs a temperature."""
    k: tuple[int, ...] = (1,)
    """Sizes of pass@k, each at most num_samples; the first is the one that arms are judged by."""


class SupervisedConfig(Config):
    """Settings of `sft`, the objective that needs no rejected side."""

    name: Literal["sft"] = "sft"
    answers: Literal["gold", "chosen"] = "gold"
    """gold: the samples' own answers; chosen: the chosen sides of the pairs that the run builds."""


class RunConfig(Config):
    """Every component's settings; a section that is absent is a stage that is not run."""

    output_dir: Path
    """The run folder; a run that was interrupted goes on in it."""
    seed: int = 0
    """Of everything that the data is built from."""
    media: FrameSampling = FrameSampling()
    """How frames are sampled, when data is built, trained on and evaluated."""
    dataset: Plugin | tuple[Plugin, ...]
    """`path: package.module:function` of a reader beside its arguments; or a list of such."""
    agent: Plugin | None = None
    """`path: package.module:function` of a graph beside its settings."""
    models: dict[str, ModelConfig]
    """`policy` is the model to be aligned; other roles are what the agent asks for."""
    engine: EngineConfig = EngineConfig()
    """How the agent is run."""
    budget: BudgetConfig = BudgetConfig()
    """What the agent may spend."""
    sandbox: SandboxConfig = SandboxConfig()
    """Where code that a model wrote is run, by an agent or by the evaluation."""
    objective: dict[str, Any] = {}
    """`name` and the objective's settings; empty or `sft` is supervised training."""
    rollouts: RolloutConfig | None = None
    """How prompts are rolled out, for an objective over rollouts."""
    rewards: tuple[RewardConfig, ...] = ()
    """What a rollout earns: the weighted sum of these."""
    trainer: TrainerConfig | None = None
    """How the policy is trained."""
    lora: LoraSettings | None = None
    """Train an adapter; without the section all weights are trained."""
    evaluation: EvaluationSection | None = None
    """What the policy is scored on."""

    @property
    def datasets(self) -> tuple[Plugin, ...]:
        """The data sets that samples are read from, in order."""
        return (self.dataset,) if isinstance(self.dataset, Plugin) else self.dataset


def supervised(objective: Mapping[str, Any]) -> SupervisedConfig | None:
    """The settings of supervised training; None where the section names another objective.

    Raises:
        ConfigError: A setting does not fit.
    """
    if objective.get("name", "sft") != "sft":
        return None
    return validate(SupervisedConfig, dict(objective), "objective")


def read_recipe(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """A recipe with `key=value` overrides.

    Raises:
        ConfigError: It does not fit; the message names key, value and the nearest known key.
    """
    config = validate(RunConfig, override(load_yaml(path), overrides or []), str(path))
    if "policy" not in config.models:
        raise ConfigError(f"{path}: models has no policy, the model that is to be aligned")
    return config


def call_reader(plugin: Plugin, where: str) -> Any:  # readers yield what they read
    """Call a plug-in's function with its arguments.

    Raises:
        ConfigError: An argument is unknown or missing, with the nearest known one.
    """
    function: Callable[..., Any] = import_plugin(plugin.path)
    parameters = inspect.signature(function).parameters
    for name in plugin.arguments:
        if name not in parameters:
            near = get_close_matches(name, parameters, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(parameters)}"
            raise ConfigError(f"{where}.{name}: {plugin.path} has no such argument; {hint}")
    try:
        inspect.signature(function).bind(**plugin.arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {plugin.path}: {error}") from error
    return function(**plugin.arguments)
